"""Fresh schedules in each run of the tests, and the same seed giving the same trace.

2,000 take a quarter of an hour on two idle cores; in a run of all suites they take what the others
leave. The seed is the run's own, printed with the result: `make simulate SEED=... ONLY=...` repeats
a schedule. SIMULATION_SEED and SIMULATION_N choose others.
"""

from __future__ import annotations

import os

import pytest

from tests.servers import Servers
from tests.simulation.campaign import Report, campaign, show

SCHEDULES = int(os.environ.get("SIMULATION_N") or 250)
# Virtual time is what counts here, so these tests may wait as long as they like for the cores.
PATIENCE_S = 3600
SEED = os.environ.get("SIMULATION_SEED") or os.urandom(4).hex()


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_fresh_schedules(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    report = campaign(servers.database_url, schedules=SCHEDULES, seed=SEED, processes=2)
    show(report, SEED)
    with capsys.disabled():
        print(f"\nsimulation, seed {SEED}: {report.as_json()}")
    assert not report.broken, capsys.readouterr().err
    assert not report.failed
    assert report.schedules == SCHEDULES


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
def test_the_same_seed_gives_the_same_trace_in_other_processes(servers: Servers) -> None:
    """Whatever ran before in a process, and however many processes share the schedules."""

    def run(seed: str, schedules: int, processes: int) -> Report:
        return campaign(servers.database_url, schedules=schedules, seed=seed, processes=processes)

    first, second = run("again", 8, 1), run("again", 8, 2)
    assert first.schedules == second.schedules == 8
    assert first.trace_hash == second.trace_hash
    assert run("another", 8, 2).trace_hash != first.trace_hash
