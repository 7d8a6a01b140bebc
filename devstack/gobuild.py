"""Small Go programs of ours, compiled with Debian's Go and libraries; nothing installed, no root.

A build from nothing takes half a minute, most of it the compiler's arrival. What comes out is
static, so it runs in an image that has nothing but a kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devstack.debian import Apt, unpack
from devstack.kube.build import SUITE, BuildError


def go_build(entry: Path, name: str, sources: Path, packages: Sequence[str]) -> None:
    """Vet the ``*.go`` files of the folder ``sources`` and build them to ``entry/name``.

    packages: Debian's, Go 1.19 itself among them. Raises BuildError, devstack.debian.DebianError.
    """
    work = entry / "work"
    root, package = work / "root", work / "path/src" / name
    wanted = [f"{each}/{SUITE}" for each in packages]
    unpack(Apt(suites=(SUITE,)).download(wanted, work / "debs"), root)
    package.mkdir(parents=True)
    for file in sources.glob("*.go"):
        shutil.copy2(file, package)
    goroot = root / "usr/lib/go-1.19"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GO")},
        "GOROOT": str(goroot),
        "GOPATH": f"{work / 'path'}:{root / 'usr/share/gocode'}",
        "GOCACHE": str(work / "cache"),
        "GOTMPDIR": str(work),
        "GO111MODULE": "off",  # Debian's libraries lie in a GOPATH and have no checksums
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "LC_ALL": "C.UTF-8",
    }
    for words in (
        ["vet", name],
        ["build", "-trimpath", "-ldflags", "-s -w", "-o", str(entry / name), name],
    ):
        done = subprocess.run(
            [str(goroot / "bin/go"), *words],
            cwd=package,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BuildError(f"go {words[0]} failed:\n{done.stderr[-3000:]}")
    shutil.rmtree(work)
