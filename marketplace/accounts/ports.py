"""Ports that a rental gives names: how they are given, what is wrong with them, how they are kept.

Orders, templates and changes give a number, which is the short form, or an object; all are read
here. Kept is the whole object, as JSON. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from marketplace.accounts.variables import Mistakes

PUBLIC, TOKEN, TEAM = "public", "token", "team"
MODES: Final = (PUBLIC, TOKEN, TEAM)
# tcp: bytes as they are, by a number at the platform's address instead of a name. Nobody can be
# asked there who they are, so its mode is public and nothing else.
HTTP, TCP = "http", "tcp"
PROTOCOLS: Final = (HTTP, TCP)
# A port of this name gives whoever opens it a shell, and access.jupyter shows it.
JUPYTER: Final = "jupyter"
_MAX_PORTS: Final = 32
# Of a platform's numbers, of which there are some thousands for everybody.
MAX_RAW: Final = 8
# Of every machine's own SSH server, which has a way in of its own.
_SSH: Final = 22022
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_FIELDS: Final = frozenset({"port", "protocol", "name", "access_mode"})
_RAW_IS_PUBLIC: Final = (
    "must be public with protocol tcp: nobody can be asked there who they are, so let the program "
    "behind it ask"
)
_NO_SHELL: Final = (
    "cannot be public: whoever opens Jupyter has a shell on the machine; choose token or team"
)


@dataclass(frozen=True)
class Port:
    """access_mode: whom the name lets in. public: anybody; token: who has the rental's token; team:
    members of the organization. protocol: http, or tcp, which is public."""

    port: int
    protocol: str = HTTP
    name: str = ""
    access_mode: str = TOKEN

    def kept(self) -> dict[str, Any]:
        return asdict(self)


# As people give it: the short form, the long one, or one that was read before.
Given = int | Mapping[str, Any] | Port


def mistakes(given: Sequence[Given]) -> Mistakes:
    """What is wrong, each under ``ports`` or ``ports.0.name``."""
    found: Mistakes = []
    for place, one in enumerate(given[: _MAX_PORTS + 1]):
        found += [(f"ports.{place}{field}", why) for field, why in _wrong(one)]
    if found:
        return found
    ports = read(given)
    numbers = [port.port for port in ports]
    names = [port.name for port in ports if port.name]
    if len(ports) > _MAX_PORTS or len(set(numbers)) != len(numbers):
        found.append(("ports", f"at most {_MAX_PORTS} different ports"))
    if sum(port.protocol == TCP for port in ports) > MAX_RAW:
        found.append(("ports", f"at most {MAX_RAW} ports with protocol tcp"))
    if len(set(names)) != len(names):
        found.append(("ports", "two ports cannot have one name"))
    return found


def read(given: Sequence[Given]) -> tuple[Port, ...]:
    """Without mistakes: what they are in full."""
    return tuple(_read(one) for one in given)


def shell_mistakes(ports: Sequence[Port], template: Sequence[Port]) -> Mistakes:
    """Ports that must not be public, by their own name or by the name that the template gives
    them: the program behind is the template's, whatever its port is called now."""
    shells = {port.port for port in (*ports, *template) if port.name == JUPYTER}
    return [
        (f"ports.{place}.access_mode", _NO_SHELL)
        for place, port in enumerate(ports)
        if port.port in shells and port.access_mode == PUBLIC
    ]


def together(numbers: Sequence[int], kept: Sequence[Mapping[str, Any]]) -> tuple[Port, ...]:
    """Ports of a template, whose numbers stand in a column of their own: the version before this
    one reads and writes those alone."""
    known = {one["port"]: Port(**one) for one in kept}
    return tuple(known.get(number, Port(number)) for number in numbers)


def _read(one: Given) -> Port:
    if isinstance(one, Port):
        return one
    if isinstance(one, int):
        return Port(one)
    raw = one.get("protocol") == TCP
    return Port(**{**one, "access_mode": one.get("access_mode", PUBLIC if raw else TOKEN)})


def _wrong(one: Given) -> Mistakes:
    if isinstance(one, Port):
        one = one.kept()
    if not isinstance(one, Mapping):
        return [("", why) for why in _wrong_number(one)]
    found: Mistakes = [
        (f".{str(name)[:63]}", "is not known here") for name in one if name not in _FIELDS
    ]
    if "port" not in one:
        found.append((".port", "is needed"))
    else:
        found += [(".port", why) for why in _wrong_number(one["port"])]
    name = one.get("name", "")
    if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
        found.append((".name", "small letters, digits and dashes, at most 32, or nothing"))
    for field, words in (("protocol", PROTOCOLS), ("access_mode", MODES)):
        if one.get(field, words[0]) not in words:
            found.append((f".{field}", f"must be {' or '.join(words)}"))
    if not found and one.get("protocol") == TCP and one.get("access_mode", PUBLIC) != PUBLIC:
        found.append((".access_mode", _RAW_IS_PUBLIC))
    return found


def _wrong_number(port: Any) -> list[str]:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        return ["ports are whole numbers from 1 to 65535"]
    return [f"{_SSH} is the machine's own SSH server"] if port == _SSH else []
