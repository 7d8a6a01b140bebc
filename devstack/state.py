"""State directories: where a stack keeps its data, logs and addresses, with one owner at a time.

The lock is held by the owner and by every guard it started (devstack.guard), and freed by the
kernel with the last of them. So a directory whose lock is free has no process left, however its
owner ended, and there is no stale lock to recover from.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType

# After a kill of the owner its guards hold the lock until the servers ended: guard.ORPHAN_GRACE_S
# and a busy machine's delays. Shorter makes a restart fail for no reason; a living owner is told
# of at once.
LOCK_WAIT_S = 15.0

# A hidden temporary directory is one that is being made, or of a process killed in that moment.
# After an hour it is the latter.
HIDDEN_AGE_S = 3600


class StateBusyError(Exception):
    """Another running process owns the state directory."""


class State:
    """An owned state directory. `acquire` a named one, or make a `temporary` one."""

    def __init__(self, path: Path, lock_fd: int, *, temporary: bool) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self.is_temporary = temporary

    @classmethod
    def acquire(cls, path: Path) -> State:
        """Own `path`, created or emptied: a stack begins empty. StateBusyError when it is owned."""
        path = path.absolute()
        path.mkdir(parents=True, exist_ok=True)
        lock_fd = _lock(path, wait_s=LOCK_WAIT_S)
        state = cls(path, lock_fd, temporary=False)
        state._empty()
        return state

    @classmethod
    def temporary(cls, kind: str) -> State:
        """Own a new directory, removed by `close`; those that killed owners left are swept."""
        _sweep(_temp_root())
        # Hidden from a concurrent sweep until its lock is held.
        hidden = Path(tempfile.mkdtemp(prefix=f".gpuyard-{kind}-", dir=_temp_root()))
        lock_fd = _lock(hidden, wait_s=0)
        hidden.chmod(0o755)  # servers of another user have their private directories inside
        path = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
        return cls(path, lock_fd, temporary=True)

    def directory_for(self, name: str, uid: int | None) -> Path:
        """A new private directory for a server that runs as `uid` (None: as we do).

        Inside the state directory, unless `uid` could not get there (a checkout under a closed home
        directory); then elsewhere, noted so that it goes when the state goes.
        """
        inside = self.path / name
        if uid is None or enterable(self.path, uid):
            inside.mkdir(mode=0o700)
            made = inside
        else:
            made = Path(tempfile.mkdtemp(prefix=f"gpuyard-{name}-", dir=_temp_root(uid)))
            inside.symlink_to(made)
        if uid is not None:
            os.chown(made, uid, uid)
        return made

    def close(self) -> None:
        """Stop owning it. A temporary directory is removed, a named one stays."""
        if self.is_temporary:
            self._empty()
            shutil.rmtree(self.path)
        os.close(self.lock_fd)

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.name != "lock":
                _remove(entry)

    def __enter__(self) -> State:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def enterable(path: Path, uid: int) -> bool:
    """Whether `uid`, in no group of ours, can enter `path` and every directory above it."""
    resolved = path.resolve()
    for folder in [resolved, *resolved.parents]:
        found = folder.stat()
        wanted = stat.S_IXUSR if found.st_uid == uid else stat.S_IXOTH
        if not found.st_mode & wanted:
            return False
    return True


def _temp_root(uid: int | None = None) -> Path:
    """Where temporary directories go: TMPDIR and the like, if `uid` can get there."""
    if uid is None:
        return Path(tempfile.gettempdir())
    for root in (tempfile.gettempdir(), "/var/tmp", "/tmp"):
        if Path(root).is_dir() and enterable(Path(root), uid):
            return Path(root)
    raise StateBusyError(f"no temporary directory that user {uid} can enter")


def _remove(entry: Path) -> None:
    if entry.is_symlink():
        target = entry.resolve()
        # Only what directory_for made: another's symlink is unlinked, not followed.
        if target.is_dir() and target.name.startswith(f"gpuyard-{entry.name}-"):
            shutil.rmtree(target)
        entry.unlink()
    elif entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _lock(path: Path, wait_s: float) -> int:
    lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(lock_fd, 32, 0).decode().strip()
            if time.monotonic() < deadline and not _alive(owner):
                time.sleep(0.05)  # the owner is gone, its servers are ending
                continue
            os.close(lock_fd)
            raise StateBusyError(
                f"{path} is in use by process {owner}; end that one first"
            ) from None
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
    return lock_fd


def _alive(owner: str) -> bool:
    return owner.isdigit() and Path(f"/proc/{owner}").exists()


def _sweep(root: Path) -> None:
    """Remove our temporary state directories whose owners are gone."""
    for path in [*root.glob("gpuyard-*-*"), *root.glob(".gpuyard-*-*")]:
        try:
            found = path.lstat()
            young = time.time() - found.st_mtime < HIDDEN_AGE_S
            ours = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
            if not ours or (young and path.name.startswith(".")) or not (path / "lock").exists():
                continue
            State(path, _lock(path, wait_s=0), temporary=True).close()
        except (StateBusyError, FileNotFoundError):  # in use, or being swept by another
            continue
