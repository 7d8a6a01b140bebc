"""What a pod may be given to run: names of variables, values, command. Pure. Ports: ports.py.

Rentals, templates and secrets are checked by the same functions. A mistake is (field, message);
the provisioner checks once more, with its own limits, what reaches a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

MAX_TEXT: Final = 32 * 1024  # of a command, or of all variables given in clear
_MAX_WORDS, _MAX_ENV = 64, 128
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# They steer the loader, the GPU runtime and the pod's own view of its cluster.
_DENIED: Final = ("LD_", "NVIDIA_", "KUBERNETES_")

Mistakes = list[tuple[str, str]]


def name_mistake(name: str) -> str:
    """What is wrong with the name of a variable; empty when nothing is."""
    if not _NAME.fullmatch(name):
        return "a name of letters, digits and underscores"
    if name.upper().startswith(_DENIED):
        return "names with this prefix belong to the machine"
    return ""


def env_mistakes(env: Mapping[str, str]) -> Mistakes:
    found: Mistakes = []
    if len(env) > _MAX_ENV or sum(map(len, env.values())) > MAX_TEXT:
        found.append(("env", f"at most {_MAX_ENV} variables and {MAX_TEXT} characters"))
    return [*found, *names_mistakes(env, "env")]


def names_mistakes(names: Collection[str], field: str) -> Mistakes:
    """The mistakes of several names, each under ``field.NAME``."""
    return [(f"{field}.{name[:63]}", why) for name in names if (why := name_mistake(name))]


def command_mistakes(command: Sequence[str] | None) -> Mistakes:
    """None: the image's own command, which is also how to say so."""
    if command is None:
        return []
    found: Mistakes = []
    if len(command) > _MAX_WORDS or sum(map(len, command)) > MAX_TEXT:
        found.append(("command", f"at most {_MAX_WORDS} words and {MAX_TEXT} characters"))
    if not command:
        found.append(("command", "leave it out to run the image's own command"))
    return found
