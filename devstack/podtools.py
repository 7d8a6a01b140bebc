"""The tools that go into renters' pods, compiled from podtools/ with Debian's Go and libraries.

Nothing is installed and no root is needed; a build from nothing takes half a minute, most of it the
compiler's arrival. The binary is static, so it runs in an image that has nothing but a kernel.

    python -m devstack.podtools FOLDER      a copy there, for the image (deploy/tools/Containerfile)
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from devstack.cache import cached
from devstack.console import say
from devstack.gobuild import go_build
from devstack.kube.build import SUITE

SOURCES = Path(__file__).resolve().parents[1] / "podtools"
PACKAGES = (
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-github-gliderlabs-ssh-dev",
    "golang-github-anmitsu-go-shlex-dev",
    "golang-golang-x-crypto-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-term-dev",
    "golang-github-pkg-sftp-dev",
    "golang-github-kr-fs-dev",
    "golang-github-creack-pty-dev",
)
# Raise when a step below changes, so that caches are built anew.
REVISION = 1


def build_podtools() -> Path:
    """The binary, from the cache or built now.

    Raises BuildError or devstack.debian.DebianError; a failed build leaves nothing in the cache.
    """
    sources = {file.name: file.read_text() for file in sorted(SOURCES.glob("*.go"))}
    recipe = repr((SUITE, PACKAGES, sources, os.uname().machine, REVISION))
    return cached("podtools", recipe, _build) / "podtools"


def _build(entry: Path) -> None:
    say("podtools: building the tools of renters' pods (once, half a minute)")
    go_build(entry, "podtools", SOURCES, PACKAGES)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(build_podtools(), folder / "podtools")
    say(f"podtools: {folder / 'podtools'}")
