"""The catalogue's page over 100,000 cards, from the request to the last byte of HTML.

Seeds owners, nodes, cards and offers into the database of DATABASE_URL inside a transaction that is
rolled back, then asks the page fifty times per question through Django's client: middleware, view,
templates and the database, in this process. Floor: the plainest indexed page of offers as raw SQL.
Figure: the slowest median. Beside it what the page costs in CPU of this process, and in the
database. The last line is JSON.

    DATABASE_URL=postgresql://… python bench/catalogue_page.py [offers]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from django.db import connection, transaction
from django.test import Client

from bench import offers_listing as listing
from kernel.clock import now
from provisioner.models import DeviceGroup, Node, NodeShare, Slot

ROUNDS = 50
GOAL_MS = 100
NODES, CARDS = 25, 8  # of an offer; cards of a node
PAGES = [
    "/",
    "/?gpus=4&region=region-3&order=-price",
    "/?vendor=nvidia&max_price=2&min_disk_gib=100",
    "/?interruptible=false&ownership=partner&order=reliability",
    "/?gpus=64",  # nothing fits: the nearest changes are looked for
    "/cards/nvidia-h100-80gb-sxm",
]


def seed(offers: int) -> int:
    """``offers`` of 25 nodes with 8 cards each, a third without free ones; how many cards."""
    listing.seed(offers)
    DeviceGroup.objects.filter(slots_total=64).update(slots_total=NODES * CARDS)
    groups = list(DeviceGroup.objects.filter(slots_total=NODES * CARDS))
    present = now()
    nodes = [
        Node(
            cluster_id=group.cluster_id, name=f"node-{place}-{number}", uid=f"{place}-{number}",
            ready=True, sellable=True, listed_at=present,
        )
        for place, group in enumerate(groups)
        for number in range(NODES)
    ]  # fmt: skip
    Node.objects.bulk_create(nodes, batch_size=2000)
    shares = [
        NodeShare(
            node=node, group=groups[place // NODES], resource_name="nvidia.com/gpu",
            slots_total=CARDS, slots_free=CARDS,
        )
        for place, node in enumerate(nodes)
    ]  # fmt: skip
    NodeShare.objects.bulk_create(shares, batch_size=2000)
    slots = (Slot(share=share, number=number) for share in shares for number in range(CARDS))
    made = len(Slot.objects.bulk_create(slots, batch_size=5000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE provisioner_node, provisioner_nodeshare, provisioner_slot")
    return made


def measure(path: str, *, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians in milliseconds: from request to answer, CPU of this process, database."""
    client = Client()
    wall, cpu, database = [], [], []
    for number in range(rounds + 3):
        watch = listing.Stopwatch()
        began, worked = time.perf_counter(), time.process_time()
        with connection.execute_wrapper(watch):
            # As many strangers as requests: one of them would be asked to slow down.
            answer = client.get(path, REMOTE_ADDR=f"10.0.{number // 250}.{number % 250}")
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        if number >= 3:  # the first ones compile templates
            wall.append((time.perf_counter() - began) * 1000)
            cpu.append((time.process_time() - worked) * 1000)
            database.append(watch.ms)
    return {
        "wall": statistics.median(wall),
        "cpu": statistics.median(cpu),
        "database": statistics.median(database),
    }


def main(offers: int) -> int:
    worst = floor = worked = 0.0
    cards = 0
    try:
        with transaction.atomic():
            cards = seed(offers)
            floor = listing.measure(listing.floor_page)
            for path in PAGES:
                took = measure(path)
                worst, worked = max(worst, took["wall"]), max(worked, took["cpu"])
                shown = "  ".join(f"{name} {ms:6.1f} ms" for name, ms in took.items())
                print(f"{shown}  {path}", flush=True)
            raise listing.Undo
    except listing.Undo:
        pass
    result = {
        "bench": "catalogue_page",
        "offers": offers,
        "cards": cards,
        "floor_ms": round(floor, 3),
        "figure_ms": round(worst, 1),
        "ratio": round(worst / floor, 1),
        "cpu_ms": round(worked, 1),
        "goal_ms": GOAL_MS,
        "load": os.getloadavg()[0],
        "ok": worst < GOAL_MS,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
