"""The product's side: hostile inputs through its API, calls and loops against hostile servers.

Everything here runs in one process, which is the one that is measured; it is first a worker, then a
web process. The other side is `far_end`.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.hostile.evidence import Guard, Memory, Names, Pulse
from tests.hostile.far_end import ROTATING, FarEnd
from tests.hostile.inputs import inputs
from tests.hostile.report import Report
from tests.hostile.stage import Stage

# Of all inputs: what owners type, servers at an address, agents gone bad, servers behind an agent.
_SHARES = {"typed": 0.5, "servers": 0.25, "bad_agents": 0.15}
_BASELINE_S = 5.0
# What stands beside a real agent, a program each.
_BEHIND_AGENTS = (
    *(ROTATING, "silent", "a body without end", "a million objects", "pages without end"),
    "full pages without end",
    *("events without end", "redirect 307", "a long integer", "a gzip bomb", "cut in a chunk"),
)


def campaign(folder: Path, *, count: int, seed: str) -> Report:
    """``count`` inputs by ``seed``; DATABASE_URL names a migrated database."""
    report = Report(seed)
    rng = random.Random(seed)
    names = Names()
    far = FarEnd(folder, os.environ["DATABASE_URL"], seed)
    try:
        stage = Stage(far, names, report)
        stage.warm_up()
        guard = Guard(stage.allowed_ports(), frozenset({"/etc/passwd"}))
        _play(stage, guard, rng, count)
        _count(stage, guard)
    finally:
        far.close()
    return report


def _play(stage: Stage, guard: Guard, rng: random.Random, count: int) -> None:
    from tests.hostile import loops

    short = count < 500
    typed, servers, bad = (int(count * share) for share in _SHARES.values())
    behind = _BEHIND_AGENTS[: 3 if short else None]
    direct = stage.direct_clusters()
    bad_agents = stage.bad_agents()
    agents = stage.real_agents(behind)
    with Pulse(stage.ask_healthy).beating() as before:
        time.sleep(_BASELINE_S)
    memory = Memory()
    guard.watch()
    with Pulse(stage.ask_healthy).beating() as during:
        stage.at_bad_door()
        stage.call_all("bad_agents", bad_agents, rng, bad)
        stage.at_real_door()
        stage.call_all("servers", direct, rng, servers)
        stage.call_all("behind_agents", agents, rng, count - typed - servers - bad)
        called = memory.growth_mib()
        loops.run(stage, direct, agents, rounds=1 if short else 6, short=short)
        looped = memory.growth_mib()
        # What owners type comes to the web processes, so it is counted by itself.
        memory = Memory()
        for each in inputs(rng, typed):
            stage.hand_over(each)
    ratio = statistics.median(during.times) / statistics.median(before.times)
    stage.report.figures |= {
        "memory_mib": looped,
        "memory_mib_before_loops": called,
        "web_memory_mib": memory.growth_mib(),
        "healthy_ms_before": round(statistics.median(before.times) * 1000, 1),
        "healthy_ms_during": round(statistics.median(during.times) * 1000, 1),
        "healthy_ratio": round(ratio, 2),
        "healthy_asked": len(during.times),
        "healthy_failures": len(before.failures) + len(during.failures),
    }
    for text in during.failures[:5]:
        stage.report.problem(f"the healthy cluster: {text}")


def _count(stage: Stage, guard: Guard) -> None:
    stage.report.figures |= {
        **stage.far.order("figures"),
        "processes_started": len(guard.processes),
        "forbidden_connections": len(guard.connections),
        "files_opened": len(guard.opened),
        "connections_seen": guard.seen,
        "names_asked": stage.names.asked,
    }
    for text in (*guard.connections[:10], *guard.processes[:10], *guard.opened[:10]):
        stage.report.problem(f"stopped: {text}")


def show(report: Report) -> None:
    """For people, on standard error."""
    say: Any = lambda text: print(text, file=sys.stderr)  # noqa: E731
    for text in report.problems[:60]:
        say(f"PROBLEM {text}")
    for outcome, times in report.outcomes.most_common():
        say(f"{times:6} {outcome}")


def port_of(url: str) -> int:
    return urlsplit(url).port or 443
