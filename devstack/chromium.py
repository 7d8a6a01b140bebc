"""A Chromium for Playwright: CHROMIUM_PATH, else PATH, else Debian's, fetched without installing.

Playwright's own download is not on any path here. Debian's package and the libraries it needs are
unpacked into the cache and found through LD_LIBRARY_PATH; the C library stays the machine's. Fonts
come along with a configuration of their own, so that pages look the same on every machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from devstack.cache import cached
from devstack.console import fail, say
from devstack.debian import Apt, DebianError, Package, unpack

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core", "fonts-liberation")
# Raise when what is kept or written below changes, so that caches are made anew.
REVISION = 1

# Of the closure only libraries, fonts and the browser are unpacked: the rest is what an installed
# system would run. Of the libraries not the C library, which must match the machine's loader, nor
# what only a graphics card or a login needs.
_KEPT = re.compile(r"(chromium|fonts-|lib|zlib).*")
_LEFT_OUT = re.compile(
    r"libc6|libllvm.*|libgl1-mesa-dri|libz3.*|lib.*perl.*|libpam.*|libsystemd-shared|libcryptsetup.*"
)

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>system-ui</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>Liberation Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
</fontconfig>
"""


def launch_options() -> dict[str, Any]:
    """Arguments for Playwright's `chromium.launch`; fetches the browser on first use (about 20 s).

    Nothing outside the machine is looked up or reached. Playwright starts Chromium without its
    sandbox unless told otherwise; the pages are our own.
    """
    binary, environment = find()
    return {
        "executable_path": str(binary),
        "headless": True,
        "env": {**os.environ, **environment},
        "args": [
            "--disable-gpu",
            "--disable-quic",
            "--disable-sync",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            # Names below localhost are this machine: ports of rentals have such names here.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, "
            "EXCLUDE *.localhost",
        ],
    }


def find() -> tuple[Path, dict[str, str]]:
    """The browser's program and what it needs in its environment. Exits with a message if none."""
    named = os.environ.get("CHROMIUM_PATH")
    if named:
        if not _runs(named):
            raise fail(f"CHROMIUM_PATH is {named}, which does not run")
        return Path(named), {}
    for name in NAMES:
        found = shutil.which(name)
        if found and _runs(found):
            return Path(found), {}
    try:
        entry = cached("chromium", _recipe(), _fetch)
    except DebianError as error:
        raise fail(
            f"no Chromium: {error}\nInstall one, or name it in CHROMIUM_PATH, and run this again."
        ) from error
    return _program(entry), _environment(entry)


def _recipe() -> str:
    release = "".join(
        line for line in Path("/etc/os-release").read_text().splitlines() if "CODENAME" in line
    )
    return repr(
        (PACKAGES, _KEPT.pattern, _LEFT_OUT.pattern, _FONTS, release, os.uname().machine, REVISION)
    )


def _fetch(entry: Path) -> None:
    say("chromium: fetching Debian's, with its libraries and fonts")
    apt = Apt()
    packages = [package for package in apt.closure(PACKAGES) if _wanted(package)]
    total = sum(package.size for package in packages) / 1e6
    say(f"chromium: {len(packages)} packages, {total:.0f} MB")
    downloads = entry / "downloads"
    unpack(apt.download(packages, downloads), entry)
    shutil.rmtree(downloads)
    shutil.rmtree(entry / "usr" / "share" / "doc")
    (entry / "fonts.conf").write_text(_FONTS)
    if not _runs(str(_program(entry)), _environment(entry)):
        raise DebianError("the fetched Chromium does not start on this machine")
    say("chromium: ready")


def _wanted(package: Package) -> bool:
    return bool(_KEPT.fullmatch(package.name)) and not _LEFT_OUT.fullmatch(package.name)


def _program(entry: Path) -> Path:
    return entry / "usr" / "lib" / "chromium" / "chromium"


def _environment(entry: Path) -> dict[str, str]:
    folders = [
        folder
        for root in ("usr/lib", "lib")
        for architecture in sorted((entry / root).glob("*-linux-*"))
        # Two packages keep libraries in folders of their own, known to them by absolute path.
        for folder in (architecture, architecture / "nss", architecture / "pulseaudio")
        if folder.is_dir()
    ]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(str(folder) for folder in folders),
        "FONTCONFIG_FILE": str(entry / "fonts.conf"),
    }


def _runs(program: str, environment: dict[str, str] | None = None) -> bool:
    """Whether it is a program that tells a version: Ubuntu's is a script that wants a snap."""
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **(environment or {})},
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    print(find()[0])
