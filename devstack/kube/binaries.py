"""Finds the programs of a control plane: given, on PATH, cached, else built.

A place counts only when it holds the whole set, because API server, scheduler and controller
manager of different versions do not belong together.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

from devstack.console import say
from devstack.kube.build import CONTROL_PLANE, build_control_plane

NEEDED = ("etcd", *CONTROL_PLANE)


@dataclasses.dataclass(frozen=True)
class Binaries:
    """A complete set in `folder`; `version` is (major, minor) of its API server."""

    folder: Path
    version: tuple[int, int]

    def path(self, name: str) -> Path:
        return self.folder / name

    def copy_to(self, folder: Path) -> Binaries:
        """The same set as real copies: replacing a file under a running program crashes it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in NEEDED:
            shutil.copy2(self.folder / name, folder / name)
        return dataclasses.replace(self, folder=folder)


def find_binaries() -> Binaries:
    """KUBEBUILDER_ASSETS, PATH, the cache, else a build (minutes on first use).

    Raises build.BuildError or debian.DebianError when building is needed and fails.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        missing = missing_from(Path(given))
        if not missing:
            return _described(Path(given))
        say(f"KUBEBUILDER_ASSETS lacks {', '.join(missing)}: looking elsewhere")
    on_path = shutil.which("kube-apiserver")
    if on_path and not missing_from(Path(on_path).parent):
        return _described(Path(on_path).parent)
    return _described(build_control_plane())


def missing_from(folder: Path) -> list[str]:
    """Names of needed programs that `folder` does not hold."""
    return [name for name in NEEDED if not os.access(folder / name, os.X_OK)]


def _described(folder: Path) -> Binaries:
    command = [str(folder / "kube-apiserver"), "--version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"v(\d+)\.(\d+)", shown)
    if not found:
        raise RuntimeError(f"{command[0]} does not tell its version: {shown.strip()!r}")
    return Binaries(folder, (int(found[1]), int(found[2])))
