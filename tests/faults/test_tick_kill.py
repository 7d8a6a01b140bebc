"""Three workers on one tick, two of them killed with -9: nothing twice, nothing missed."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db.models import Count, Max, Min, Sum

from billing import facade as billing
from billing.models import RentalMeter, UsageLine
from kernel.clock import hour_of, now
from kernel.ids import new_id
from marketplace.rentals import charge as charging
from provisioner.models import Cluster, Instance, ReadyInterval
from tests.area.billing.conftest import USD, credit, open_org, rent, start
from tests.market import make_renter, make_supply, order

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
RENTALS, HOURS, BATCH = 240, 3, 40
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s"
    " AND classid = %s"
)


def test_three_workers_on_one_tick_with_two_kills(database_url: str) -> None:
    since = hour_of(now()) - timedelta(hours=HOURS)
    seed(since)
    moments = ("posted", "committed", "")
    with psycopg.connect(database_url, autocommit=True) as gate:
        # All three wait at the door that they pass one by one, so that each gets its turns.
        gate.execute("SELECT pg_advisory_lock(%s)", [charging._LOCK])
        workers = [worker(moment, database_url) for moment in moments]
        key = charging._LOCK
        halves = [key & 0xFFFFFFFF, key >> 32]
        while gate.execute(WAITING, halves).fetchone() != (len(moments),):
            assert all(each.poll() is None for each in workers), "one ended before its turn"
        gate.execute("SELECT pg_advisory_unlock(%s)", [charging._LOCK])
        ends = [each.communicate(timeout=200) for each in workers]
    assert [each.returncode for each in workers] == [-signal.SIGKILL, -signal.SIGKILL, 0], ends
    assert charging.charge() == 0, "nothing was missed"
    lines = UsageLine.objects.values("meter").annotate(
        n=Count("id"), seconds=Sum("seconds"), first=Min("from_at"), last=Max("to_at")
    )
    assert lines.count() == RENTALS
    until = since + timedelta(hours=HOURS)
    assert {(row["n"], row["seconds"], row["first"], row["last"]) for row in lines} == {
        (HOURS, HOURS * 3600, since, until)
    }, "nothing twice"
    assert set(ReadyInterval.objects.values_list("charged_to", flat=True)) == {until}
    meters = RentalMeter.objects.filter(pk__in=[row["meter"] for row in lines])
    assert meters.aggregate(total=Sum("charged_micro"))["total"] == sum(
        meter.price_micro_h * HOURS for meter in meters
    )
    assert billing.books().balanced


def seed(since) -> None:
    """Rentals that run since then in one cluster, proven up to the full hour, uncharged."""
    supply = make_supply(1)
    make_renter("Pattern").call("POST", "/rentals", order(supply.offer))
    pattern = Instance.objects.get(cluster=supply.cluster)
    orgs = [open_org(f"Org {number}") for number in range(4)]
    for org in orgs:
        credit(org, 10_000 * USD)
    rentals = [
        rent(orgs[number % len(orgs)], price_micro_h=1_999_000 + number)
        for number in range(RENTALS)
    ]
    instances, intervals = [], []
    for rental in rentals:
        start(rental, since)
        row = copy.copy(pattern)
        row.pk, row.rental_ref, row.state = new_id(), rental, "ready"
        row.pod_name, row.due_at, row.lease_due_at = f"gy-{row.pk}", None, None
        instances.append(row)
        intervals.append(
            ReadyInterval(
                instance_id=row.pk,
                cluster=supply.cluster,
                rental_ref=rental,
                gpus=1,
                pod_uid="uid",
                opened_at=since,
                charged_to=since,
            )
        )
    Instance.objects.bulk_create(instances)
    ReadyInterval.objects.bulk_create(intervals)
    Cluster.objects.filter(pk=supply.cluster.pk).update(
        last_positive_at=since + timedelta(hours=HOURS)
    )


def worker(moment: str, database_url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.tick_worker", moment, str(BATCH)],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
