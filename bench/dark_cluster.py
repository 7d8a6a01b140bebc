"""From a rent to its pod on healthy clusters, beside a partner's cluster that hangs or does not.

Four simulated clusters over HTTP and TLS, a worker of four processes with its broker and beat, a
watcher, a renter. Slices with and without the hanging cluster alternate. The goal: the others'
median changes by less than 10 %; beside it the range over pairs of slices, which is the machine's
noise. Uses a copy of the database of DATABASE_URL, which must be migrated. The last line is JSON.

    DATABASE_URL=… BROKER_URL=… python bench/dark_cluster.py [pairs] [seconds per slice]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

import django

django.setup()

from devstack.kube.sim.stack import Pace, SimStack  # noqa: E402
from devstack.state import State  # noqa: E402
from tests.crowd.scratch import scratch_database  # noqa: E402
from tests.faults.storm import processes  # noqa: E402
from tests.faults.storm.launches import Figures, compare  # noqa: E402
from tests.market import USD, make_renter  # noqa: E402
from tests.sites import on_sale  # noqa: E402

NAMES = ("near", "nearer", "nearest", "partner")
GOAL = 1.10
FLEET: list[dict[str, Any]] = [
    {"card": "h100-sxm", "nodes": 4, "cards": 8, "cpu": 192, "memory_gib": 2048, "disk_gib": 28000}
]


def run(pairs: int, seconds: int) -> Figures:
    with State.temporary("dark") as state, scratch_database("gpuyard_dark_cluster") as url:
        stack = SimStack(
            state.path / "kube",
            names=NAMES,
            fleets=dict.fromkeys(NAMES, FLEET),
            pace=Pace(heartbeat_s=10.0),
            control=False,
        )
        stack.start()
        try:
            sites = on_sale(stack, make_renter("Owner", credit=0))
            renter = make_renter("Renter", credit=10_000 * USD)
            worker = processes.celery(state.path)
            with processes.running(url, state.path, sites, workers=[worker]):
                return compare(renter, sites, pairs=pairs, seconds=seconds)
        finally:
            stack.stop()


def main(pairs: int, seconds: int) -> int:
    figures = run(pairs, seconds)
    healthy, cut_off = figures.medians()
    ratios = figures.ratios()
    result = {
        "bench": "dark_cluster",
        "launches": sum(map(len, figures.healthy + figures.cut_off)),
        "floor_ms": round(healthy * 1000, 1),
        "figure_ms": round(cut_off * 1000, 1),
        "ratio": round(figures.ratio(), 3),
        "ratio_of_pairs": [round(min(ratios), 3), round(max(ratios), 3)],
        "goal_ratio": GOAL,
        "load": os.getloadavg()[0],
        "ok": figures.ratio() < GOAL,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*[*given, *(4, 20)[len(given) :]]))
