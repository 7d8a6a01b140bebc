"""Whether this machine can have a real node, and if not, the one reason to tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from devstack.kube.node.machine import hierarchies

_NEEDED_GROUPS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer")
# Numbers of capabilities(7), with what a node needs them for.
_CAPABILITIES = {
    21: ("CAP_SYS_ADMIN", "namespaces and mounts"),
    12: ("CAP_NET_ADMIN", "the bridge of the pods"),
    27: ("CAP_MKNOD", "device nodes in containers"),
}


def why_not() -> str | None:
    """None where a real node can run, else a sentence for a person."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid() != 0:
        return "a real node needs root"
    return _no_capability() or _no_programs() or _no_groups() or _no_namespaces()


def snapshotter(folder: Path) -> str:
    """containerd's snapshotter for layers below `folder`: overlayfs where that can be mounted."""
    parts = [folder / f"overlay-{each}" for each in ("low", "up", "work", "seen")]
    for part in parts:
        part.mkdir()
    low, up, work, seen = parts
    options = f"lowerdir={low},upperdir={up},workdir={work}"
    command = ["unshare", "--mount", "mount", "-t", "overlay", "-o", options, "none", str(seen)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    finally:
        for part in parts:
            shutil.rmtree(part)
    return "native" if done.returncode else "overlayfs"


def _no_capability() -> str | None:
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("CapEff:")]
    have = int(line.split()[1], 16)
    for bit, (name, purpose) in _CAPABILITIES.items():
        if not have >> bit & 1:
            return f"a real node needs {name} for {purpose}"
    return None


def _no_programs() -> str | None:
    for name in ("ip", "mount", "umount", "unshare", "setpriv", "apt-get", "dpkg-deb"):
        if not shutil.which(name):
            return f"a real node needs the program {name}"
    return None


def _no_groups() -> str | None:
    mounted = {mount.name: mount for mount in hierarchies()}
    for mount in list(mounted.values()):  # two controllers may share a mount point
        mounted |= dict.fromkeys(mount.name.split(","), mount)
    for name in _NEEDED_GROUPS:
        if name not in mounted:
            return f"a real node needs control groups of version 1, and there is no {name}"
        if not os.access(mounted[name], os.W_OK) or os.statvfs(mounted[name]).f_flag & os.ST_RDONLY:
            return f"a real node needs to write to the control groups of {name}"
    return None


def _no_namespaces() -> str | None:
    """Tries what containers need, in namespaces that go with the trial."""
    trials = {
        "process and mount namespaces": "true",
        "a bridge": "ip link add trial type bridge",
        "pairs of virtual interfaces": "ip link add trial type veth peer name other",
    }
    for what, command in trials.items():
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return f"a real node needs {what}: {done.stderr.strip()}"
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return "a real node needs a kernel with seccomp filters"
    return None
