"""What may be ordered to run in a pod. PURE; the last check before an order is stored.

The marketplace checks with friendlier words; this one makes sure that no path around it reaches a
cluster: a bad order is refused here, with nothing stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kernel.errors import InvalidRequest
from provisioner.contracts import PodOrder

_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:-]{0,250}@sha256:[0-9a-f]{64}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# They steer the loader, the vendors' device injection, or programs that trust the cluster.
DENIED_ENV = ("LD_", "NVIDIA_", "KUBERNETES_")
MAX_ENV_BYTES = 256 * 1024  # a Secret holds 1 MiB; a quarter leaves room for its encoding
MAX_COMMAND_BYTES = 32 * 1024
MAX_PORTS = 32
MAX_VOLUMES = 8  # more mounts slow a start down and no program of ours has asked for so many
_MOUNT = re.compile(r"(/[A-Za-z0-9._-]{1,64}){1,6}")
# What the kernel, the container runtime or we put there; a disk over it breaks the machine.
RESERVED_PATHS = ("proc", "sys", "dev", "etc", "run", "gpuyard")
_SECONDS = {"termination_grace": (0, 600), "grace_seconds": (60, 3600)}


def check_order(order: PodOrder) -> None:
    """Raise InvalidRequest with a message per field unless the order may reach a cluster."""
    found: dict[str, list[str]] = {}
    if not _IMAGE.fullmatch(order.image):
        found["image"] = ["name it by digest: repository@sha256:…"]
    problems = _env_problems(order)
    if problems:
        found["env"] = problems
    if sum(len(part.encode()) for part in order.command) > MAX_COMMAND_BYTES or any(
        "\x00" in part for part in order.command
    ):
        found["command"] = [f"at most {MAX_COMMAND_BYTES // 1024} KiB, without zero bytes"]
    if len(order.ports) > MAX_PORTS or len(set(order.ports)) != len(order.ports):
        found["ports"] = [f"at most {MAX_PORTS}, each once"]
    if any(not 1 <= port <= 65535 for port in order.ports):
        found["ports"] = ["between 1 and 65535"]
    for name, (low, high) in _SECONDS.items():
        if not low <= getattr(order, name) <= high:
            found[name] = [f"between {low} and {high} seconds"]
    if mounts := _volume_problems(order):
        found["volumes"] = mounts
    if order.pull_secret is not None and set(order.pull_secret) != {
        "registry",
        "username",
        "password",
    }:
        found["pull_secret"] = ["registry, username and password"]
    if found:
        raise InvalidRequest(found)


def _env_problems(order: PodOrder) -> list[str]:
    env = {**order.env, **order.secret_env}
    problems = [problem for name in env if (problem := _env_problem(name))]
    if set(order.env) & set(order.secret_env):
        problems.append("a name is given both in clear and as a secret")
    if sum(len(k) + len(v.encode()) for k, v in env.items()) > MAX_ENV_BYTES:
        problems.append(f"at most {MAX_ENV_BYTES // 1024} KiB in all")
    if any("\x00" in value for value in env.values()):
        problems.append("values must not hold a zero byte")
    return problems


def _volume_problems(order: PodOrder) -> list[str]:
    problems = mount_problems([mount.path for mount in order.volumes])
    if len({mount.volume_id for mount in order.volumes}) != len(order.volumes):
        problems.append("a volume is mounted once")
    return problems


def mount_problems(paths: Sequence[str]) -> list[str]:
    """What is wrong with the places where volumes are to be mounted; a sentence each."""
    problems = [problem for path in paths if (problem := _mount_problem(path))]
    if len(paths) > MAX_VOLUMES:
        problems.append(f"at most {MAX_VOLUMES} volumes")
    if len(set(paths)) != len(paths):
        problems.append("two volumes cannot be mounted at one path")
    return problems


def _mount_problem(path: str) -> str:
    shown = repr(path[:60])
    if not _MOUNT.fullmatch(path) or {".", ".."} & set(path.split("/")):
        return f"{shown} is not a path such as /data: absolute, letters, digits, . _ -, no .."
    if path.split("/")[1] in RESERVED_PATHS:
        return f"{shown} belongs to the machine itself: mount it elsewhere, such as /data"
    return ""


def _env_problem(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        return f"{name[:60]!r} is not a name for a variable"
    if name.upper().startswith(DENIED_ENV):
        return f"{name[:60]} is reserved ({', '.join(p + '*' for p in DENIED_ENV)})"
    return ""
