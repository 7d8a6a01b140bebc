"""The per-user cache of things that are slow to fetch or build, shared by all checkouts.

An entry is a directory named after a recipe's hash. It is built in a neighbour directory and
renamed into place, so an entry that exists is complete, whatever was interrupted before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from devstack.console import say


def cache_dir() -> Path:
    """GPUYARD_CACHE, else XDG_CACHE_HOME/gpuyard, else ~/.cache/gpuyard; created when missing."""
    named = os.environ.get("GPUYARD_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME")
    if named:
        path = Path(named)
    elif xdg:
        path = Path(xdg) / "gpuyard"
    else:
        path = Path.home() / ".cache" / "gpuyard"
    path.mkdir(parents=True, exist_ok=True)
    return path.absolute()


@contextlib.contextmanager
def exclusive(lock_file: Path, waiting_for: str) -> Iterator[None]:
    """Hold `lock_file`; says once what it waits for. The kernel drops it when the holder dies."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{waiting_for}: another process is at it, waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """Directory `<name>-<hash of recipe>` in the cache, made by `build(empty_directory)` if absent.

    What `build` raises comes through and leaves no entry behind. Paths inside the entry must be
    relative, because the directory is renamed after the build.
    """
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    entry = cache_dir() / f"{name}-{digest}"
    if entry.is_dir():
        return entry
    with exclusive(cache_dir() / f"{name}.lock", name):
        if entry.is_dir():
            return entry
        for abandoned in cache_dir().glob(f"{name}-*.part-*"):  # a build that was killed
            shutil.rmtree(abandoned)
        part = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part-", dir=cache_dir()))
        part.chmod(0o755)
        try:
            build(part)
            part.rename(entry)
        except BaseException:
            shutil.rmtree(part)
            raise
    return entry
