"""`make test`: everything the tests need, then all suites in order, then one table of what it took.

SUITES="unit area" in the environment limits the run; PYTEST_ADDOPTS works as everywhere. The
database server and the broker are started once, and one database is migrated for all suites to
copy. Every suite is a pytest of its own, so none lives on what an earlier one left in memory, and a
later one runs although an earlier one failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from devstack import chromium
from devstack.bootstrap import ROOT
from devstack.broker import Broker
from devstack.console import fail, say
from devstack.debian import DebianError
from devstack.kube.binaries import find_binaries
from devstack.kube.build import BuildError
from devstack.kube.node.able import why_not
from devstack.kube.node.build import build_programs
from devstack.podtools import build_podtools
from devstack.postgres import Postgres
from devstack.process import Child, ProcessError, Supervisor
from devstack.state import State

TESTS = ROOT / "tests"
# What fails fastest and explains most comes first; what needs whole clusters or a browser last.
SUITES = (
    *("unit", "house", "golden", "contract", "area", "flows"),
    *("races", "faults", "simulation", "live", "browser"),
)

# Suites whose tests wait for the database half of the time; each worker has a database of its own.
WORKERS = {"contract": 2, "area": 2, "flows": 2, "faults": 2}

# Much computing that depends on no real time: it runs from the beginning, behind everything else,
# with servers of its own that are behind as well, and takes what the others leave of the cores. At
# its place in the order its end is waited for: what comes later holds real time against goals.
BESIDE = ("simulation",)

# pytest's fixtures stop whole stacks after Ctrl-C; then its guard kills what is left.
STOP_GRACE_S = 30

# Of what a failed test said: its first and its last lines. A trace of a schedule has hundreds.
HEAD, TAIL = 12, 25


@dataclass(frozen=True)
class Outcome:
    """How one suite ended: pytest's exit status, seconds from its beginning.

    ``failures``: name of each test that failed, with the message of its error.
    """

    suite: str
    status: int
    seconds: float
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def verdict(self) -> str:
        return f"FAILED (status {self.status})" if self.status else "passed"


def main() -> int:
    """0 when no suite failed, 1 otherwise, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a killed make ends like Ctrl-C
    suites = chosen(os.environ.get("SUITES", "").split())
    began = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        prepare()
        with (
            State.temporary("testrun") as state,
            Postgres(state, fsync=False) as postgres,
            Broker(state) as broker,
            Supervisor(state) as supervisor,
        ):
            say("PostgreSQL and broker: ready")
            addresses = {"DATABASE_URL": postgres.url, "BROKER_URL": broker.url}
            addresses["GPUYARD_TEST_TEMPLATE"] = migrated(postgres.url)
            say("a database is migrated for all suites")
            beside = {suite: Run(supervisor, suite) for suite in suites if suite in BESIDE}
            for suite in suites:
                run = beside.get(suite) or Run(supervisor, suite, addresses)
                outcomes.append(run.outcome())
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130
    except (ProcessError, DebianError, BuildError) as error:
        raise fail(str(error)) from error
    report(outcomes, time.monotonic() - began)
    return 1 if any(done.status for done in outcomes) else 0


def chosen(wanted: list[str], tests: Path = TESTS) -> list[str]:
    """The suites to run in order. Exits when one is unknown, or on disk and not in SUITES."""
    on_disk = {path.parent.relative_to(tests).parts[0] for path in tests.glob("*/**/test_*.py")}
    forgotten = sorted(on_disk - set(SUITES))
    if forgotten:
        raise fail(
            f"tests/{forgotten[0]} is not in SUITES of devstack/testrun.py: it would not run"
        )
    unknown = sorted(set(wanted) - set(SUITES))
    if unknown:
        raise fail(f"no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    return [suite for suite in SUITES if suite in (wanted or SUITES)]


def prepare() -> None:
    """Fetch and build what the caches lack: minutes on the first run, nothing later."""
    steps: dict[str, Callable[[], object]] = {
        "Kubernetes": find_binaries,
        "Chromium": chromium.find,
        "pod tools": build_podtools,
        **({} if why_not() else {"a real node's programs": build_programs}),
    }
    for name, step in steps.items():
        began = time.monotonic()
        step()
        say(f"{name}: ready ({time.monotonic() - began:.1f} s)")


def migrated(url: str) -> str:
    """A database of this server with all migrations, for the suites to copy; its name."""
    name = "gpuyard_migrated"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"],
        env={
            **os.environ,
            "DATABASE_URL": url.rsplit("/", 1)[0] + f"/{name}",
            "DJANGO_SETTINGS_MODULE": "config.settings.test",
        },
        cwd=ROOT,
        check=True,
    )
    return name


class Run:
    """One pytest. Ctrl-C is passed on to it once, so that it can clean up.

    ``addresses``: of the servers it shares; one without has its own, and its output is kept until
    it has ended.
    """

    def __init__(
        self, supervisor: Supervisor, suite: str, addresses: dict[str, str] | None = None
    ) -> None:
        self._supervisor = supervisor
        self._suite = suite
        self._beside = addresses is None
        self._results = supervisor.state.path / f"{suite}.xml"
        self._began = time.monotonic()
        say(f"suite {suite}" + (" begins, behind the others" if self._beside else ""))
        self._child = supervisor.start(
            f"pytest-{suite}",
            [
                *(sys.executable, "-m", "pytest", "-q", "--durations=10", str(TESTS / suite)),
                *("--numprocesses", str(WORKERS.get(suite, 0)), "--dist", "loadfile"),
                *("--junitxml", str(self._results)),
            ],
            # Workers must collect in the same order.
            env={**(addresses or {"GPUYARD_BEHIND": "1"}), "PYTHONHASHSEED": "0"},
            cwd=ROOT,
            grace_s=STOP_GRACE_S,
            stop_signal=signal.SIGINT,
            shown=not self._beside,
        )

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        if self._beside:
            say(f"suite {self._suite}: waiting for its end")
        status = _wait(self._child)
        seconds = time.monotonic() - self._began
        if self._beside:
            print(self._child.log.read_text(errors="replace"), flush=True)
        self._supervisor.discard(self._child)
        return Outcome(self._suite, status, seconds, tuple(failures(self._results)))


def failures(results: Path) -> Iterator[tuple[str, str]]:
    """Name and message of each failed test in a JUnit file; none when pytest wrote none."""
    if not results.exists():
        return
    for case in ET.parse(results).iter("testcase"):
        for failed in (*case.findall("failure"), *case.findall("error")):
            name = f"{case.get('classname')}::{case.get('name')}"
            report = (failed.text or "").splitlines()  # the attribute ``message`` is cut short
            said = [line for line in report if line.startswith("E  ")]
            yield name, "\n".join(said or report)


def _wait(child: Child) -> int:
    # Its own time limits end a test that hangs; a run as a whole has none.
    while True:
        try:
            return child.wait(3600)
        except ProcessError:
            say(f"{child.name}: still running after another hour")


def report(outcomes: list[Outcome], total_s: float) -> None:
    """What each failed test said, one line per suite and one for all, on standard output.

    Last, because whoever keeps only the end of a long output still sees why it failed.
    """
    for done in outcomes:
        for name, message in done.failures:
            print(f"FAILED {name}")
            lines = message.splitlines()
            if len(lines) > HEAD + TAIL:
                lines[HEAD:-TAIL] = [f"[{len(lines) - HEAD - TAIL} lines more]"]
            print("\n".join(line[:400] for line in lines))
    for done in outcomes:
        print(f"{done.suite:10} {done.seconds:7.1f} s  {done.verdict}")
    print(f"{'all':10} {total_s:7.1f} s")


if __name__ == "__main__":
    sys.exit(main())
