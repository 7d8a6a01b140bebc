"""What a real node needs of the machine outside its own namespaces, and how all of it goes again.

Everything carries the node's number in its name, so what a killed node left is found by name: the
control groups with whatever still runs in them, the bridge with the pods' interfaces, the node's
address on the loopback interface. Nothing else of a node lies outside its namespaces and folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
# Killed processes and their network namespaces are gone within milliseconds; a busy machine and
# a container with much memory to free need longer.
_GONE_WITHIN_S = 20.0
_POLL_S = 0.01


_HIGHEST = 250

_claims: dict[int, socket.socket] = {}


class MachineError(Exception):
    """Something of the machine could not be set up or cleared away."""


class Place:
    """The traces of node `number` on this machine; 1 to 250."""

    def __init__(self, number: int) -> None:
        if not 1 <= number <= _HIGHEST:
            raise ValueError(f"a node's number is 1 to {_HIGHEST}, not {number}")
        self.number = number
        self.name = f"gpuyard-node-{number}"  # of its control groups, and of its lock
        self.bridge = f"gpuyard{number}"
        # On the loopback interface; of its usual 127/8 a kubelet takes none.
        self.address = f"10.99.0.{number}"
        self.pods = f"10.98.{number - 1}.0/24"
        self.gateway = f"10.98.{number - 1}.1"

    @classmethod
    def claim(cls) -> Place:
        """The lowest place that nobody has; ours until `release` or the end of this process."""
        for number in range(1, _HIGHEST + 1):
            place = cls(number)
            claimed = socket.socket(socket.AF_UNIX)
            if number not in _claims and held(claimed, f"{place.name}-claimed"):
                with socket.socket(socket.AF_UNIX) as probe:
                    if held(probe, place.name):  # no node of a killed process ends there just now
                        _claims[number] = claimed
                        return place
            claimed.close()
        raise MachineError(f"there are {_HIGHEST} nodes on this machine")

    def release(self) -> None:
        """Give a claimed place back; nothing happens to one that was not claimed."""
        if self.number in _claims:
            _claims.pop(self.number).close()

    @classmethod
    def left(cls) -> list[Place]:
        """Places with control groups, of living nodes and of killed ones."""
        found = (_CGROUPS / "pids").glob("gpuyard-node-*")
        return [cls(int(group.name.rpartition("-")[2])) for group in found]

    def set_up(self) -> None:
        """The address and the control groups. Raises MachineError. The bridge comes with pods."""
        _ip("address", "add", f"{self.address}/32", "dev", "lo")
        for hierarchy in hierarchies():
            group = hierarchy / self.name
            group.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1
                if (hierarchy / setting).exists():
                    (group / setting).write_text((hierarchy / setting).read_text())
        self._own_group().mkdir(exist_ok=True)

    def enter(self) -> None:
        """Count this process and its descendants to the node, so that none can be overlooked."""
        (self._own_group() / "cgroup.procs").write_text("0")

    def clear(self) -> None:
        """Remove all traces, also those of a node that was killed; nothing happens without any.

        Raises MachineError when something does not go in time.
        """
        deadline = time.monotonic() + _GONE_WITHIN_S
        while pids := self.processes():
            for pid in pids:
                _kill(pid)
            _wait_a_little(deadline, f"processes {sorted(pids)} of {self.name}")
        while links := self._links():
            for name in links:  # the kernel may be quicker: it removes them with their namespaces
                _ip("link", "delete", name, check=False)
            _wait_a_little(deadline, f"interfaces {links}")
        if self._addressed():
            _ip("address", "delete", f"{self.address}/32", "dev", "lo")
        while left := [group for group in self._groups() if not _removed(group)]:
            _wait_a_little(deadline, f"control groups {[str(group) for group in left]}")

    def processes(self) -> set[int]:
        """All processes in the node's control groups."""
        found: set[int] = set()
        for group in self._groups():
            try:
                found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
            except FileNotFoundError:  # removed meanwhile
                continue
        return found

    def _links(self) -> list[str]:
        """The bridge and what is plugged into it."""
        every = json.loads(_ip("-json", "link", "show"))
        return [
            link["ifname"] for link in every if self.bridge in (link["ifname"], link.get("master"))
        ]

    def _addressed(self) -> bool:
        (loopback,) = json.loads(_ip("-json", "address", "show", "dev", "lo"))
        return any(each["local"] == self.address for each in loopback["addr_info"])

    def _own_group(self) -> Path:
        return _CGROUPS / "pids" / self.name / "system"

    def _groups(self) -> list[Path]:
        """Existing groups of the node, the inner ones first."""
        found = []
        for hierarchy in hierarchies():
            for folder, _, _ in os.walk(hierarchy / self.name, topdown=False):
                found.append(Path(folder))
        return found


def held(lock: socket.socket, name: str) -> bool:
    """Make `lock` hold a name that only one process of the machine can; the kernel frees it."""
    try:
        lock.bind(f"\0{name}")
    except OSError:
        return False
    return True


def hierarchies() -> list[Path]:
    """Mount points of control groups of version 1. No order."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] == "cgroup"]


def _ip(*words: str, check: bool = True) -> str:
    """Run `ip`; its output. MachineError when it fails and that is to be checked."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise MachineError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy until its last process is really gone
        return False
    return True


def _wait_a_little(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise MachineError(f"still there after {_GONE_WITHIN_S:.0f} s: {what}")
    time.sleep(_POLL_S)
