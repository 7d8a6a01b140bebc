"""What a real node could leave behind on this machine, to be compared before and after."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from devstack.kube.node.inside import SYSCTLS
from devstack.kube.node.machine import Place, hierarchies


def traces(place: Place) -> dict[str, Any]:
    folders = ["/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods"]
    folders += ["/run/containerd", "/run/netns", "/opt/containerd", "/usr/libexec/kubernetes"]
    ours = (place.name, place.bridge, "kubelet", "containerd", "overlay")
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    links = {line.split(": ")[1].partition("@")[0] for line in shown.splitlines()}
    return {
        "processes": place.processes(),
        "interfaces": {each for each in links if each == place.bridge},
        "addresses": _ip("address", "show", "to", f"{place.address}/32"),
        "routes": _ip("route", "show", "to", "match", place.pods),
        "mounts": [line for line in mounts if any(each in line for each in ours)],
        "groups": [str(each) for each in hierarchies() if (each / place.name).exists()],
        "settings": {each: Path("/proc/sys", each).read_text() for each in SYSCTLS},
        "folders": [each for each in folders if Path(each).exists()],
        "tables": Path("/proc/net/ip_tables_names").read_text(),
    }


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout
