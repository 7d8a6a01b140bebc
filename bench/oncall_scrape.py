"""What /metrics asks the database with 10,000 running rentals and as many sealed audit rows.

Seeds clusters, instances, intervals and rentals into the database of DATABASE_URL inside a
transaction that is rolled back, so any migrated database will do. Floor: counting the rentals once,
which every scrape did before it had vital signs. Figure: the median of all vital signs and their
alarms, in milliseconds of this process. The last line is JSON.

    DATABASE_URL=postgresql://… python bench/oncall_scrape.py [rentals]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

import django

django.setup()

from django.db import connection, transaction  # noqa: E402

from kernel.clock import hour_of, now  # noqa: E402
from kernel.ids import new_id  # noqa: E402
from marketplace.accounts import audit  # noqa: E402
from marketplace.models import (  # noqa: E402
    AuditEntry,
    AuditSeal,
    DataCenter,
    Offer,
    Organization,
    Provider,
    Rental,
    User,
)
from marketplace.oncall.alarms import judge  # noqa: E402
from marketplace.oncall.vitals import everything  # noqa: E402
from marketplace.rentals import read  # noqa: E402
from provisioner.models import (  # noqa: E402
    Cluster,
    ClusterLoop,
    DeviceGroup,
    Instance,
    Namespace,
    Node,
    NodeShare,
    ReadyInterval,
)

ROUNDS = 25
GOAL_MS = 30
CLUSTERS = 20


class Undo(Exception):
    """Ends the transaction without keeping the seed."""


def seed(count: int) -> None:
    """``count`` rentals that run well on 20 clusters; every hundredth is on its way."""
    present = now()
    organization = Organization.objects.create(name=f"bench {new_id().hex}")
    person = User.objects.create_user(f"{new_id().hex}@example.com")
    provider = Provider.objects.create(organization=organization, contact_email="b@example.com")
    place = DataCenter.objects.create(provider=provider, name="bench", region="r", country="DE")
    shares, namespaces, offer = _supply(place)
    rentals, instances, intervals = [], [], []
    for number in range(count):
        share, moving = shares[number % CLUSTERS], number % 100 == 0
        rental, instance = new_id(), new_id()
        rentals.append(
            Rental(
                id=rental, organization=organization, created_by=person, name="bench",
                offer=offer, image="i", accelerator="a", gpus=1, disk_gib=1, price_micro_h=1,
                provider_micro_h=1, desired_state="running", reason="ready",
                state="provisioning" if moving else "running", state_since=present,
                failover=False, locked=False, leaving=False, attempts=0,
            )
        )  # fmt: skip
        instances.append(
            Instance(
                id=instance, rental_ref=rental, tenant_ref=organization.id, share=share,
                cluster_id=share.node.cluster_id, namespace=namespaces[number % CLUSTERS], gpus=1,
                accelerator="a", memory_mib=1, vcpus_milli=1, ram_mib=1, disk_mib=1, order={},
                state="creating" if moving else "ready", state_since=present, event_seq=2,
                followed_seq=2, created_at=present, pod_name=instance.hex,
                due_at=present if moving else None,
            )
        )  # fmt: skip
        if not moving:
            opened = hour_of(present)
            intervals.append(
                ReadyInterval(
                    instance_id=instance, cluster_id=share.node.cluster_id, rental_ref=rental,
                    gpus=1, pod_uid="a", opened_at=opened, charged_to=opened,
                )
            )  # fmt: skip
    Rental.objects.bulk_create(rentals, batch_size=2000)
    Instance.objects.bulk_create(instances, batch_size=2000)
    ReadyInterval.objects.bulk_create(intervals, batch_size=2000)
    _audit(count)
    with connection.cursor() as cursor:
        # As autovacuum does for tables that grew like this.
        cursor.execute(
            "ANALYZE marketplace_rental, provisioner_instance, provisioner_readyinterval,"
            " marketplace_auditentry, marketplace_auditseal"
        )


def _supply(place: DataCenter) -> tuple[list[NodeShare], list[Namespace], Offer]:
    present = now()
    shares, namespaces = [], []
    for number in range(CLUSTERS):
        cluster = Cluster.objects.create(
            name=f"bench-{number}", provider_ref=place.provider_id, datacenter_ref=place.id,
            api_url="https://bench.example.com", ca_pem="", token_sealed=b"", state="ready",
            state_since=present, created_at=present, last_positive_at=present,
        )  # fmt: skip
        for kind in ClusterLoop.Kind.values:
            ClusterLoop.objects.create(
                cluster=cluster, kind=kind, due_at=present + timedelta(seconds=5)
            )
        group = DeviceGroup.objects.create(
            cluster=cluster, provider_ref=place.provider_id, datacenter_ref=place.id,
            accelerator="a", vendor="v", memory_mib=1, vcpus_milli_per_gpu=1, ram_mib_per_gpu=1,
            disk_mib_per_gpu=1, created_at=present, updated_at=present,
        )  # fmt: skip
        node = Node.objects.create(cluster=cluster, name="n", uid="u", listed_at=present)
        shares.append(NodeShare.objects.create(node=node, group=group, resource_name="r"))
        namespaces.append(Namespace.objects.create(cluster=cluster, name="bench"))
    offer = Offer.objects.create(
        provider=place.provider, datacenter=place, group=shares[0].group,
        ownership="partner", region="r", country="DE",
    )  # fmt: skip
    return shares, namespaces, offer


def _audit(count: int) -> None:
    tail = AuditSeal.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    rows = AuditEntry.objects.bulk_create(
        [AuditEntry(actor="platform", action="bench", object="x") for _ in range(count)],
        batch_size=2000,
    )
    AuditSeal.objects.bulk_create(
        [
            AuditSeal(seq=tail + number, entry=row, prev_hash=b"", hash=b"")
            for number, row in enumerate(rows, start=1)
        ],
        batch_size=2000,
    )
    audit.record(acting="platform", action="bench", object="x", organization_ref=None)


def measure(ask: Callable[[], object]) -> float:
    """The median of this process's milliseconds."""
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def main(count: int) -> int:
    floor, figure, vitals = 0.0, 0.0, 0
    try:
        with transaction.atomic():
            seed(count)
            floor = measure(read.by_state)
            figure = measure(lambda: judge(everything()))
            vitals = len(everything())
            raise Undo
    except Undo:
        pass
    result = {
        "bench": "oncall_scrape",
        "rentals": count,
        "vitals": vitals,
        "floor_ms": round(floor, 3),
        "figure_ms": round(figure, 3),
        "ratio": round(figure / floor, 2),
        "goal_ms": GOAL_MS,
        "load": os.getloadavg()[0],
        "ok": figure < GOAL_MS,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
