"""The programs of a real node: compiled from Debian's sources, or unpacked from its packages.

Nothing is installed and no root is needed. Three cache entries: the kubelet with the device plugin
(Kubernetes' tree has both's libraries; three minutes), the tools that images need (half a minute,
most of it the compiler's arrival), and containerd with what it calls (seconds).
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from devstack.cache import cached
from devstack.console import say
from devstack.debian import Apt, unpack
from devstack.gobuild import go_build
from devstack.kube.build import SUITE, TAGS, VERSION, SourceBuild, version_flags

_HERE = Path(__file__).parent
_GO = ("golang-1.19-go", "golang-1.19-src")
_RUNTIME = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "libseccomp2",  # runc's only library beside libc
    "busybox-static",
)
# Raise when a step of the entry changes, so that caches are built anew.
_KUBELET_REVISION = 1
_TOOLS_REVISION = 1
_RUNTIME_REVISION = 1


@dataclasses.dataclass(frozen=True)
class Programs:
    """Where everything is: `kubelet` and `tools` are directories of binaries, `runtime` a tree."""

    kubelet: Path
    tools: Path
    runtime: Path

    @property
    def path(self) -> str:
        """PATH of containerd and its shims, before anything else."""
        return f"{self.runtime / 'usr/bin'}:{self.runtime / 'usr/sbin'}"

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH of runc."""
        return ":".join(
            str(each) for each in sorted((self.runtime / "usr/lib").glob("*-linux-gnu"))
        )


def build_programs() -> Programs:
    """All programs, from the cache or made now.

    Raises BuildError or devstack.debian.DebianError; what fails leaves nothing in the cache.
    """
    return Programs(build_kubelet(), build_card_tools(), fetch_runtime())


def build_kubelet() -> Path:
    """Directory with `kubelet` and `deviceplugin`."""
    plugin = (_HERE / "deviceplugin/main.go").read_text()
    machine = os.uname().machine
    recipe = repr((SUITE, VERSION, TAGS, plugin, machine, _KUBELET_REVISION))
    return cached("kubelet", recipe, lambda entry: _KubeletBuild(entry).run())


class _KubeletBuild(SourceBuild):
    def run(self) -> None:
        say(f"kubelet {VERSION}: building (once, about three minutes)")
        self.fetch()
        self.repair_reflect2()
        shutil.copytree(_HERE / "deviceplugin", self.tree / "cmd/deviceplugin")
        targets = ["./cmd/kubelet", "./cmd/deviceplugin"]
        self.go_build(targets, self.entry, ["-tags", TAGS, "-ldflags", version_flags()])
        shutil.rmtree(self.work)
        say(f"kubelet {VERSION}: built")


def build_card_tools() -> Path:
    """Directory with `cardtools`, static: the cards' tools of each vendor, and `pause`."""
    sources = {file.name: file.read_text() for file in sorted((_HERE / "cardtools").glob("*.go"))}
    recipe = repr((SUITE, _GO, sources, os.uname().machine, _TOOLS_REVISION))
    return cached("cardtools", recipe, _build_card_tools)


def _build_card_tools(entry: Path) -> None:
    say("card tools: building (once, half a minute)")
    go_build(entry, "cardtools", _HERE / "cardtools", _GO)


def fetch_runtime() -> Path:
    """A tree with containerd, runc, the CNI plugins and busybox as Debian lays them out."""
    recipe = repr((SUITE, _RUNTIME, os.uname().machine, _RUNTIME_REVISION))
    return cached("containerd", recipe, _fetch_runtime)


def _fetch_runtime(entry: Path) -> None:
    debs = entry / "debs"
    wanted = [f"{each}/{SUITE}" for each in _RUNTIME]
    unpack(Apt(suites=(SUITE,)).download(wanted, debs), entry)
    shutil.rmtree(debs)
    shutil.rmtree(entry / "usr/share")
