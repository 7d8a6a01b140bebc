"""5,000 live rentals at rest, reconciled by one worker process: CPU, memory, statements.

The clusters are simulated in this process, behind HTTP and TLS; the worker is a process of its own
(tests/crowd/loops.py), so its figures are its own. Seeds a copy of the database of DATABASE_URL,
which must be migrated, and drops it at the end. Floor: decoding the JSON of the same lists. The
goal: 10,000 rentals on 50 clusters take at most 5 % of one core. The last line is JSON.

    DATABASE_URL=postgresql://… python bench/reconcile_5000.py [rentals] [seconds] [clusters]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

import django  # noqa: E402

django.setup()

from devstack.kube.sim.stack import Pace, SimStack  # noqa: E402
from devstack.state import State  # noqa: E402
from tests.crowd.scratch import scratch_database  # noqa: E402
from tests.crowd.seed import fill  # noqa: E402
from tests.market import make_renter  # noqa: E402
from tests.sites import on_sale  # noqa: E402

SCRATCH = "gpuyard_reconcile_5000"
TENANTS = 8
GOAL_SHARE = 0.05
GOAL_RENTALS = 10_000
FLEET: list[dict[str, Any]] = [
    {"card": "h100-sxm", "nodes": 1, "cards": 8, "cpu": 192, "memory_gib": 2048, "disk_gib": 28000}
]


def run(rentals: int, seconds: int, clusters: int) -> dict[str, Any]:
    """Seed, let one worker run, and hand back what it measured."""
    names = [f"crowd-{number:02d}" for number in range(clusters)]
    with State.temporary("crowd") as state, scratch_database(SCRATCH) as url:
        stack = SimStack(
            state.path / "kube",
            names=names,
            fleets=dict.fromkeys(names, FLEET),
            namespaces=TENANTS,
            pace=Pace(heartbeat_s=60, node_grace_s=200, event_ttl_s=60, history=500),
            control=False,
        )
        stack.start()
        try:
            fill(on_sale(stack, make_renter("Owner", credit=0)), rentals, tenants=TENANTS)
            print(f"{rentals} rentals in {clusters} clusters run", flush=True)
            done = subprocess.run(
                [sys.executable, "-m", "tests.crowd.loops", str(seconds)],
                env={**os.environ, "DATABASE_URL": url},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            stack.stop()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(rentals: int, seconds: int, clusters: int) -> int:
    found = run(rentals, seconds, clusters)
    minutes, total = seconds / 60, 0.0
    print(
        "loop            runs  statements/run   wall ms/run   CPU ms per 1,000 rentals and minute"
    )
    for name, cost in found["loops"].items():
        runs = max(1, cost["runs"])
        per = cost["cpu"] * 1000 / minutes / rentals * 1000
        total += cost["cpu"]
        queries, wall = cost["queries"] / runs, cost["wall"] * 1000 / runs
        print(f"{name:14} {cost['runs']:5d} {queries:15.1f} {wall:13.1f} {per:12.1f}")
    share = total / seconds
    floor = found["decode_s"] * found["loops"]["observe"]["runs"] / seconds
    result = {
        "bench": "reconcile_5000",
        "rentals": rentals,
        "clusters": clusters,
        "floor_core_share": round(floor, 4),
        "figure_core_share": round(share, 4),
        "ratio": round(share / floor, 2),
        "cpu_ms_per_rental_minute": round(total * 1000 / minutes / rentals, 3),
        "at_10000_core_share": round(share * GOAL_RENTALS / rentals, 4),
        "goal_core_share_at_10000": GOAL_SHARE,
        "list_mib": round(found["list_bytes"] / 2**20, 1),
        "rss_before_mib": round(found["rss_before_mib"]),
        "rss_mib": round(found["rss_mib"]),
        "rss_peak_mib": round(found["rss_peak_mib"]),
        "drained": found["drained"],
        "drain_s": round(found["drain_s"], 1),
        "drain_cpu_s": round(found["drain_cpu_s"], 1),
        "load": os.getloadavg()[0],
        "ok": share < 1.0,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*[*given, *(5000, 60, 10)[len(given) :]]))
