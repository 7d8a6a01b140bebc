"""The product's processes as children: workers and a watcher, up before anything is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from provisioner.models import ClusterLoop
from tests.sites import Site

ROOT = Path(__file__).resolve().parents[3]
# They import the Kubernetes client: some seconds of an idle core each, minutes of a crowded one.
UP_WITHIN_S = 400.0
# A loop ends its run, and the calls of it that hang, before its process goes.
DOWN_WITHIN_S = 60.0
_POLL_S = 0.1
_LINES = 200
# The loops at their periods, without a broker.
LOOPS = ("-m", "tests.faults.storm.worker")


class Children:
    """``ended`` names those that went by themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, command: list[str], env: dict[str, str]) -> None:
        with self.log(name).open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, *command], env=env, cwd=ROOT, stdout=out, stderr=out
            )
        self._running.append((name, child))

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def ended(self) -> list[str]:
        return [name for name, child in self._running if child.poll() is not None]

    def said(self, *names: str) -> list[str]:
        """Lines of the logs that hold one of ``names`` or tell of an error; the newest last."""
        words = (*names, "Error", '"level": "error"')
        return [
            f"{name}: {line}"
            for name, _ in self._running
            for line in self.log(name).read_text(errors="replace").splitlines()
            if any(word in line for word in words)
        ][-_LINES:]

    def stop(self) -> None:
        for _, child in self._running:
            child.terminate()
        for _, child in self._running:
            try:
                child.wait(DOWN_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def celery(folder: Path) -> list[str]:
    """The command of a worker as in devstack, with beat in it; for places with a broker."""
    return [
        *("-m", "celery", "-A", "config.celery", "worker", "--concurrency", "4", "--beat"),
        *("--schedule", str(folder / "beat.db"), "--loglevel", "INFO"),
        *("--without-mingle", "--without-gossip"),
    ]


@contextmanager
def running(
    database_url: str, folder: Path, sites: list[Site], *, workers: Sequence[Sequence[str]]
) -> Iterator[Children]:
    """A watcher and ``workers``, by their commands, all up inside. Logs lie in ``folder``."""
    env = {**os.environ, "DATABASE_URL": database_url}
    children = Children(folder)
    names = [f"worker-{number}" for number in range(len(workers))]
    try:
        for name, program in zip(names, workers, strict=True):
            children.start(name, list(program), env)
        children.start("watcher", ["manage.py", "watcher"], env)
        _await(children, names, sites)
        yield children
    finally:
        children.stop()


def _await(children: Children, workers: list[str], sites: list[Site]) -> None:
    """Until every worker says that it is ready and the watcher has claimed every cluster."""
    ends = time.monotonic() + UP_WITHIN_S
    watched = ClusterLoop.objects.filter(kind="watch", claim_token__isnull=False)
    while not all(
        b"ready" in children.log(name).read_bytes() for name in workers
    ) or watched.count() < len(sites):
        for name in children.ended():
            raise AssertionError(f"{name} ended: {children.log(name).read_text()[-2000:]}")
        assert time.monotonic() < ends, f"not up within {UP_WITHIN_S} s"
        time.sleep(_POLL_S)
