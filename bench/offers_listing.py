"""GET /offers over 10,000 offers' worth of inventory, as the database sees it.

Seeds owners, groups and offers into the database of DATABASE_URL inside a transaction that is
rolled back, so any migrated database will do. Floor: the plainest indexed page over the same
join, no filter but what makes an offer be on sale. Figure: the slowest median of several filtered
questions as the catalogue asks them. The last line is JSON.

    DATABASE_URL=postgresql://… python bench/offers_listing.py [offers]
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from kernel.clock import now  # noqa: E402
from kernel.ids import new_id  # noqa: E402
from marketplace.catalog.registry import vocabulary  # noqa: E402
from marketplace.catalog.search import parse, search  # noqa: E402
from marketplace.models import DataCenter, Offer, Organization, Provider  # noqa: E402
from provisioner import facade  # noqa: E402
from provisioner.models import Cluster, DeviceGroup  # noqa: E402

ROUNDS = 15
GOAL_MS = 50
QUESTIONS = [
    {"gpus": ["2"]},
    {"gpus": ["4"], "min_memory_gib": ["48"], "region": ["region-3"], "order": ["-price"]},
    {"vendor": ["nvidia"], "gpus": ["1"], "max_price": ["1.5"], "min_cuda": ["12.4"]},
    {"ownership": ["partner"], "country": ["DE"], "min_ram_gib": ["128"], "gpus": ["2"]},
    {"min_vcpus": ["64"], "min_disk_gib": ["500"], "gpus": ["8"], "interconnect": ["nvlink"]},
    {"accelerator": ["nvidia-h100-80gb-sxm", "nvidia-l40s"], "order": ["reliability"]},
    {"gpus": ["64"]},  # matches nothing: the whole index is read
]


class Undo(Exception):
    """Ends the transaction without keeping the seed."""


def seed(count: int) -> None:
    """``count`` offers: 50 owners, 10 regions, every accelerator, a third without free cards."""
    dice = random.Random(7)
    present = now()
    cards = facade.accelerators()
    places = [_place(number) for number in range(50)]
    clusters = Cluster.objects.bulk_create(
        Cluster(
            name=f"bench-{number}", provider_ref=place.provider_id, datacenter_ref=place.id,
            api_url="https://bench.example.com", ca_pem="", token_sealed=b"", state="ready",
            state_since=present, created_at=present,
        )
        for number, place in enumerate(places)
    )  # fmt: skip
    groups = []
    for number in range(count):
        card, cluster = dice.choice(cards), clusters[number % 50]
        free = dice.choice([0, 0, 4, 8, 16, 64])
        groups.append(
            DeviceGroup(
                cluster=cluster, provider_ref=cluster.provider_ref,
                datacenter_ref=cluster.datacenter_ref, accelerator=card.slug, vendor=card.vendor,
                memory_mib=card.memory_mib, driver=f"5{number}", cuda_max="12.4",
                cuda_max_x100=1240, verified=True, vcpus_milli_per_gpu=8000,
                ram_mib_per_gpu=dice.choice([32768, 65536, 131072]), disk_mib_per_gpu=204800,
                listed_ok=True, slots_total=64, slots_free=free, largest_block=min(free, 8),
                created_at=present, updated_at=present,
            )
        )  # fmt: skip
    DeviceGroup.objects.bulk_create(groups, batch_size=2000)
    Offer.objects.bulk_create(
        [
            Offer(
                provider=place.provider, datacenter=place, group_id=group.id, state="active",
                price_micro_h=dice.randrange(200_000, 4_000_000, 10_000),
                ownership=place.provider.ownership, region=place.region, country=place.country,
            )
            for group, place in ((group, places[n % 50]) for n, group in enumerate(groups))
        ],
        batch_size=2000,
    )  # fmt: skip
    with connection.cursor() as cursor:
        # As autovacuum does for a table that grew like this.
        cursor.execute(
            "ANALYZE marketplace_offer, marketplace_provider, marketplace_datacenter,"
            " provisioner_devicegroup"
        )


def _place(number: int) -> DataCenter:
    organization = Organization.objects.create(name=f"bench {number} {new_id().hex}")
    provider = Provider.objects.create(
        organization=organization, state="approved", contact_email="bench@example.com",
        ownership="owned" if number % 2 else "partner",
    )  # fmt: skip
    return DataCenter.objects.create(
        provider=provider, name=f"bench-{number}", region=f"region-{number % 10}",
        country=["DE", "US", "SG"][number % 3],
    )  # fmt: skip


class Stopwatch:
    """Adds up the time that statements take, as the driver sees it: fetch included."""

    def __init__(self) -> None:
        self.ms = 0.0

    def __call__(self, execute, sql, params, many, context):
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.ms += (time.perf_counter() - started) * 1000


def measure(ask: Callable[[], object]) -> float:
    """The median of the database's milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        watch = Stopwatch()
        with connection.execute_wrapper(watch):
            ask()
        taken.append(watch.ms)
    return statistics.median(taken)


def floor_page() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT o.*, g.* FROM marketplace_offer o"
            " JOIN provisioner_devicegroup g ON g.id = o.group_id"
            " WHERE o.state = 'active' ORDER BY o.price_micro_h, o.id LIMIT 51"
        )
        cursor.fetchall()


def main(count: int) -> int:
    vocabulary()
    worst, floor = 0.0, 0.0
    try:
        with transaction.atomic():
            seed(count)
            floor = measure(floor_page)
            for question in QUESTIONS:
                query = parse(question)
                found = len(search(query).rows)
                took = measure(lambda query=query: search(query))  # type: ignore[misc]
                worst = max(worst, took)
                print(f"{took:7.2f} ms  {found:3d} rows  {question}")
            raise Undo
    except Undo:
        pass
    result = {
        "bench": "offers_listing",
        "offers": count,
        "floor_ms": round(floor, 3),
        "figure_ms": round(worst, 3),
        "ratio": round(worst / floor, 2),
        "goal_ms": GOAL_MS,
        "load": os.getloadavg()[0],
        "ok": worst < GOAL_MS,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
