"""One worker process with all loops that live rentals cost anything: what each of them takes.

Run by reconcile_5000.py with DATABASE_URL: `python -m tests.crowd.loops SECONDS`. The loops run one
after the other in one thread, each when it is due by config/schedules.py, so that the CPU time of
the process between two readings belongs to one loop. First everything runs once unmeasured. After
it comes the floor: the time to decode the same lists and to do nothing with them. Last, every
instance is made due at once, as after an outage, and the instance loop runs until none is. Prints
one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import django

# Those that run beside a rental at rest. Not here: what works on demand only (place, mail).
LOOPS = (
    *("instances", "observe", "orphans", "leases", "lease_wishes", "follow", "charge", "funds"),
    "summaries",
)
# A drain that takes longer has collapsed.
DRAIN_WITHIN = 600.0


@dataclass
class Cost:
    """Of one loop: how often it ran, CPU and wall seconds, statements."""

    runs: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    queries: int = 0


class Counter:
    """Counts statements; put around a connection."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        self.number += 1
        return execute(sql, params, many, context)


def measure(
    loops: Mapping[str, tuple[Callable[[], object], float]], seconds: float
) -> dict[str, Cost]:
    """Run each loop at its period for ``seconds``."""
    from django.db import connection

    costs = {name: Cost() for name in loops}
    counter, ends = Counter(), time.monotonic() + seconds
    due = dict.fromkeys(loops, 0.0)
    with connection.execute_wrapper(counter):
        while (now := time.monotonic()) < ends:
            name = min(due, key=lambda key: due[key])
            if due[name] > now:
                time.sleep(min(due[name], ends) - now)
                continue
            run, period = loops[name]
            due[name] = now + period
            _account(costs[name], run, counter)
    return costs


def _account(cost: Cost, run: Callable[[], object], counter: Counter) -> None:
    wall, cpu, queries = time.monotonic(), time.process_time(), counter.number
    run()
    cost.runs += 1
    cost.wall += time.monotonic() - wall
    cost.cpu += time.process_time() - cpu
    cost.queries += counter.number - queries


def decoding() -> tuple[float, int]:
    """The floor: CPU seconds to decode one list of every cluster's pods, and its bytes."""
    from provisioner.kube.connections import connect
    from provisioner.models import Cluster, Namespace

    texts = []
    for cluster in Cluster.objects.all():
        api = connect(cluster)
        bound = Namespace.objects.filter(cluster=cluster).exclude(tenant_ref=None)
        texts += [
            json.dumps(api.list_pods(name)[0]) for name in bound.values_list("name", flat=True)
        ]
    began = time.process_time()
    for text in texts:
        json.loads(text)
    return time.process_time() - began, sum(map(len, texts))


def drain() -> tuple[int, float, float]:
    """All instances due at once: how many, and wall and CPU seconds until none is due any more."""
    from kernel.clock import AppNow
    from provisioner.models import Instance
    from provisioner.reconcile import instance_loop

    count = Instance.objects.filter(state="ready").update(due_at=AppNow())
    wall, cpu = time.monotonic(), time.process_time()
    while Instance.objects.filter(due_at__isnull=False).exists():
        instance_loop.run()
        if time.monotonic() - wall > DRAIN_WITHIN:
            raise SystemExit(f"not drained within {DRAIN_WITHIN} s")
    return count, time.monotonic() - wall, time.process_time() - cpu


def memory_mib() -> float:
    """Resident now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(seconds: float) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    django.setup()
    from config.celery import app
    from config.schedules import BEAT

    app.loader.import_default_modules()
    loops = {n: (app.tasks[BEAT[n]["task"]], float(BEAT[n]["schedule"])) for n in LOOPS}
    before = memory_mib()
    for run, _ in loops.values():
        run()
    costs = measure(loops, seconds)
    at_rest = memory_mib()
    floor, size = decoding()
    count, wall, cpu = drain()
    found = {
        "loops": {name: vars(cost) for name, cost in costs.items()},
        "decode_s": floor,
        "list_bytes": size,
        "rss_before_mib": before,
        "rss_mib": at_rest,
        "rss_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "drained": count,
        "drain_s": wall,
        "drain_cpu_s": cpu,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(float(sys.argv[1]))
