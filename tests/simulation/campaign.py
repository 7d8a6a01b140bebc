"""Many schedules over several processes, each with a database of its own; one line of JSON.

The seed of schedule i is "SEED:i", whatever the number of processes, and trace_hash is taken over
the schedules' own hashes in order: equal for equal N and SEED anywhere. Workers run with a fixed
PYTHONHASHSEED, because the order of Python's sets of texts would differ otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from devstack.postgres import drop_database
from tests.servers import TEMPLATE

ROOT = Path(__file__).resolve().parents[2]
# Violations printed whole; with more, one cause is at work and the rest would only hide it.
SHOWN = 3

Row = dict[str, Any]
Worker = AbstractContextManager["subprocess.Popen[str]"]


@dataclass
class Report:
    """What a campaign found. ``broken``: schedule -> what a worker said of it."""

    schedules: int
    seconds: float
    trace_hash: str
    broken: dict[int, list[str]]
    failed: bool

    def as_json(self) -> str:
        return json.dumps(
            {
                "schedules": self.schedules,
                "seconds": round(self.seconds, 1),
                "violations": len(self.broken),
                "trace_hash": self.trace_hash,
            }
        )


def campaign(url: str, *, schedules: int, seed: str, processes: int) -> Report:
    """Run schedules 0 to ``schedules`` - 1 of ``seed``. ``url``: a server whose role may create
    databases; those made here are dropped at the end."""
    began = time.monotonic()
    with databases(url, processes) as urls, ExitStack() as stack:
        workers = [
            stack.enter_context(_schedules(one, seed, range(number, schedules, processes)))
            for number, one in enumerate(urls)
        ]
        # Read at once: a worker whose pipe is full would wait for those before it.
        readers = stack.enter_context(ThreadPoolExecutor(len(workers)))
        results = list(readers.map(rows_of, workers))
        failed = any(worker.wait() for worker in workers)
    found = {row["index"]: row for rows in results for row in rows}
    return Report(
        schedules=len(found),
        seconds=time.monotonic() - began,
        trace_hash=_whole(found),
        broken={row["index"]: row["trace"] for row in found.values() if row["violations"]},
        failed=failed or len(found) != schedules,
    )


def one(url: str, *, seed: str, index: int) -> Report:
    """Schedule ``index`` alone, its trace on standard output."""
    began = time.monotonic()
    with databases(url, 1) as urls, _schedules(urls[0], seed, range(index, index + 1)) as worker:
        rows = rows_of(worker)
        failed = bool(worker.wait()) or not rows
    for row in rows:
        print("\n".join(row["trace"]))
    return Report(
        schedules=len(rows),
        seconds=time.monotonic() - began,
        trace_hash=_whole({row["index"]: row for row in rows}),
        broken={row["index"]: row["violations"] for row in rows if row["violations"]},
        failed=failed,
    )


def _whole(found: dict[int, Row]) -> str:
    lines = "\n".join(f"{index}:{found[index]['hash']}" for index in sorted(found))
    return hashlib.sha256(lines.encode()).hexdigest()


def show(report: Report, seed: str) -> None:
    """Violations with the command that repeats each, on standard error."""
    for index in sorted(report.broken)[:SHOWN]:
        print(f"--- schedule {index} of seed {seed}", file=sys.stderr)
        print("\n".join(report.broken[index]), file=sys.stderr)
        print(f"again: make simulate SEED={seed} ONLY={index}", file=sys.stderr)
    if len(report.broken) > SHOWN:
        rest = sorted(report.broken)[SHOWN:]
        print(f"--- and schedules {', '.join(map(str, rest[:50]))}", file=sys.stderr)


@contextmanager
def databases(url: str, number: int) -> Iterator[list[str]]:
    """Databases of our own: copies of the run's migrated one, else of the first of ours."""
    names = [f"simulation_{os.getpid()}_{one}" for one in range(number)]
    template = os.environ.get(TEMPLATE)
    with psycopg.connect(url, autocommit=True) as server:
        try:
            for name in names:
                made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                given = sql.Identifier(template or "template1")
                server.execute(made.format(sql.Identifier(name), given))
                if template is None:
                    _migrate(_of(url, name))
                    template = name
            yield [_of(url, name) for name in names]
        finally:
            for name in names:
                drop_database(server, name)


def _of(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _migrate(url: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env=_environment(url),
        check=True,
    )


def _environment(url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "PYTHONHASHSEED": "0",
    }


def _schedules(url: str, seed: str, numbers: range) -> Worker:
    return worker(url, "worker", seed, numbers.start, numbers.stop, numbers.step)


@contextmanager
def worker(url: str, module: str, *given: object) -> Iterator[subprocess.Popen[str]]:
    """A process of `tests.simulation` that prints rows; ended with the block."""
    command = [sys.executable, "-m", f"tests.simulation.{module}", *map(str, given)]
    with subprocess.Popen(
        command, cwd=ROOT, env=_environment(url), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def rows_of(
    process: subprocess.Popen[str], heard: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """Its lines, until it ends. ``heard``: is given each as it comes."""
    if process.stdout is None:
        raise RuntimeError("a worker without a pipe tells nothing")
    rows = []
    for line in process.stdout:
        rows.append(json.loads(line))
        heard(rows[-1])
    return rows
