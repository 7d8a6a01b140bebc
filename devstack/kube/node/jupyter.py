"""An image with JupyterLab for the real node: Debian's Python 3.11, JupyterLab as it is locked.

    stack.jupyter_image()  # of a whole stack: gives it to the node, and its reference
    node.pack_image(JUPYTER, jupyter_files(runtime), **START)

Its container serves at port 8888 and lets in whoever has JUPYTER_TOKEN. Made on first use (a
minute, 60 MB fetched) and cached; only who asks for it pays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypedDict

from devstack.bootstrap import ROOT, find_uv
from devstack.cache import cached
from devstack.console import say
from devstack.debian import Apt, unpack
from devstack.kube.node.able import snapshotter
from devstack.kube.node.build import fetch_runtime
from devstack.kube.node.images import Content, Link, Start, base_files, pack, take_in

PORT: Final = 8888
JUPYTER: Final = "registry.example.com/gpuyard/jupyter:1"
_LOCK = ROOT / "requirements" / "jupyter.txt"
_SUITE = "bookworm"  # the last with Python 3.11
_PACKAGES = ("python3.11", "libstdc++6")  # the second for pyzmq
_HOME = "/opt/jupyter"
# Raise when a step changes, so that caches are built anew.
_REVISION = 1
# What no server needs: a third of what is fetched.
_SPARE = ("tests", "test", "__pycache__")


class Started(TypedDict):
    entrypoint: Sequence[str]
    env: dict[str, str]
    workdir: str


START: Final[Started] = {
    "entrypoint": [
        *("/usr/bin/python3.11", "-m", "jupyterlab", "--ip=0.0.0.0", f"--port={PORT}"),
        *("--allow-root", "--no-browser"),
    ],
    "env": {
        "PATH": f"{_HOME}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin",
        "HOME": "/root",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "PYTHONPATH": _HOME,
        "PYTHONDONTWRITEBYTECODE": "1",
        "JUPYTER_PATH": f"{_HOME}/share/jupyter",
        "JUPYTERLAB_DIR": f"{_HOME}/share/jupyter/lab",
        "JUPYTER_CONFIG_PATH": f"{_HOME}/etc/jupyter",
    },
    "workdir": "/root",
}


def jupyter_files(runtime: Path) -> dict[str, Content]:
    """The whole image. runtime: the tree with busybox. Raises debian.DebianError and
    subprocess.CalledProcessError with what uv said."""
    recipe = repr((_LOCK.read_text(), _SUITE, _PACKAGES, os.uname().machine, _REVISION))
    tree = cached("jupyter", recipe, _build)
    return {
        **base_files(runtime / "bin/busybox"),
        **{f"/{each.name}": each for each in sorted(tree.iterdir()) if each.name not in _MERGED},
        **{
            f"/{each.relative_to(tree).as_posix()}": each
            for name in _MERGED
            for each in sorted((tree / name).glob("*"))
        },
        "/usr/bin/python": Link("python3.11"),
        "/usr/bin/python3": Link("python3.11"),
    }


# Where busybox's commands are as well.
_MERGED = ("bin", "sbin", "etc")


def give_jupyter(node: Path) -> str:
    """Give the image to the running node with that folder; its reference."""
    runtime = fetch_runtime()
    with tempfile.TemporaryDirectory(dir=node) as scratch:
        archive = Path(scratch) / "jupyter.tar"
        packed = pack(archive, JUPYTER, jupyter_files(runtime), Start(**START))
        take_in(runtime / "usr/bin/ctr", node / "containerd.sock", archive, snapshotter(node))
    return packed


def _build(entry: Path) -> None:
    say("jupyter: fetching Python and JupyterLab (once, a minute)")
    apt = Apt(suites=(_SUITE,))
    debs = entry / "debs"
    unpack(apt.download(apt.closure(list(_PACKAGES)), debs), entry)
    shutil.rmtree(debs)
    home = entry / _HOME.lstrip("/")
    command = [str(find_uv()), "pip", "install", "--quiet", "--target", str(home)]
    command += [
        "--python-version",
        "3.11",
        "--python-platform",
        f"{os.uname().machine}-manylinux_2_28",
    ]
    command += ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(_LOCK)]
    subprocess.run(command, check=True)
    for spare in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"):
        shutil.rmtree(entry / spare, ignore_errors=True)
    for each in sorted(home.rglob("*"), reverse=True):
        if each.is_dir() and each.name in _SPARE:
            shutil.rmtree(each)
        elif each.suffix == ".map":
            each.unlink()
    say("jupyter: made")
