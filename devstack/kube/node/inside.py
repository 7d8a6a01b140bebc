"""The first process of a real node's own process and mount namespaces.

    python -m devstack.kube.node.inside NUMBER PLAN_FILE

It lays the node's folders over the machine's, so that nothing of kubelet and containerd is written
elsewhere, starts the programs in order and ends with the first of them that ends. When it ends, the
kernel kills everything in its namespaces and unmounts all that was mounted there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack.kube.node.images import take_in
from devstack.kube.node.machine import Place

# Kernel settings that a kubelet or the network plugins write. They get files of the node's own in
# their place: values as the machine has them, and nobody but us reads what is written.
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)
ENTERED = "entered"  # a file beside the plan, made once the node has its place
_RUNTIME_WITHIN_S = 60.0
_POLL_S = 0.02
_TAIL_BYTES = 3000


class Inside:
    """The programs by name, with their logs beside the plan."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.plan = plan
        self.names: dict[int, str] = {}

    def run(self) -> int:
        (self.folder / ENTERED).touch()
        self._mount_all()
        runtime = self._start("containerd", self.plan["containerd"])
        if not self._answering(runtime):
            return self._ended("containerd")
        for archive in self.plan["archives"]:
            take_in(Path(self.plan["ctr"]), self._socket(), Path(archive), self.plan["snapshotter"])
        self._start("deviceplugin", self.plan["deviceplugin"])
        self._start("kubelet", self.plan["kubelet"])
        while True:  # as the first process also of orphans
            pid, _ = os.waitpid(-1, 0)
            if pid in self.names:
                return self._ended(self.names[pid])

    def _mount_all(self) -> None:
        for name in ("lib", "log"):
            own = self.folder / f"var-{name}"
            own.mkdir(exist_ok=True)
            _mount("--bind", str(own), f"/var/{name}")
        _mount("-t", "tmpfs", "-o", "mode=755", "gpuyard", "/run")
        for folder in ("/var/lib/kubelet/device-plugins", "/run/netns"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        settings = self.folder / "sysctl"
        for name in SYSCTLS:
            real, shadow = Path("/proc/sys", name), settings / name
            if real.exists():
                shadow.parent.mkdir(parents=True, exist_ok=True)
                shadow.write_text(real.read_text())
                _mount("--bind", str(shadow), str(real))
        self._count_processors(self.plan["cpus"])
        # Beside version 1 runc would keep groups in a hierarchy of version 2 as well, for nothing.
        unified = Path("/sys/fs/cgroup/unified")
        if unified.is_mount():
            subprocess.run(["umount", str(unified)], check=True)

    def _count_processors(self, count: int | None) -> None:
        """Let the kubelet find `count` of them: it counts what the kernel's files say. Containers
        have those files anew; what runs on how many is not changed."""
        if count is None:
            return
        processors, nodes = self.folder / "cpus", self.folder / "numa"
        nodes.mkdir(exist_ok=True)  # empty: without memory nodes it asks for processors alone
        for number in range(count):
            topology = processors / f"cpu{number}" / "topology"
            topology.mkdir(parents=True, exist_ok=True)
            (topology / "core_id").write_text(f"{number}\n")
            (topology / "physical_package_id").write_text("0\n")
            (topology.parent / "online").write_text("1\n")
        (processors / "online").write_text(f"0-{count - 1}\n")
        _mount("--bind", str(processors), "/sys/devices/system/cpu")
        _mount("--bind", str(nodes), "/sys/devices/system/node")

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        print(f"{name}: starting", flush=True)
        with self._log(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.plan["environment"]},
                cwd=self.folder,
            )
        self.names[child.pid] = name
        return child

    def _answering(self, runtime: subprocess.Popen[bytes]) -> bool:
        """Wait until containerd accepts connections; False when it ended instead."""
        deadline = time.monotonic() + _RUNTIME_WITHIN_S
        while time.monotonic() < deadline and runtime.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self._socket())) == 0:
                    return True
            time.sleep(_POLL_S)
        return False

    def _ended(self, name: str) -> int:
        content = self._log(name).read_bytes()[-_TAIL_BYTES:]
        print(f"{name} ended; the end of its log:\n{content.decode(errors='replace')}", flush=True)
        return 1

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _socket(self) -> Path:
        return self.folder / "containerd.sock"


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main(arguments: list[str]) -> int:
    Place(int(arguments[0])).enter()
    plan = Path(arguments[1])
    return Inside(plan.parent, json.loads(plan.read_text())).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
