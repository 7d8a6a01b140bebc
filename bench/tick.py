"""The hourly tick over 100,000 running rentals, against the same rows written by plain SQL.

Every rental is charged one full hour: `marketplace.rentals.charge` reads what is proven, billing
charges it and refills the hold, the interval is marked. Floor: one statement of plain SQL that
writes the same rows under the same indexes, triggers and constraints and decides nothing (no lock
of a tenant, no floor, no window charged before, no overrun). The rentals lie in clusters that are
due one after the other, and the two take turns on two copies of one database, so a slow moment of
the machine hits both; the ratio is the median of the pairs'. At the end both hold the same money.
The last line is JSON.

    DATABASE_URL=postgresql://… python bench/tick.py [rentals] [pairs]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

import django

django.setup()

import psycopg  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from billing import facade as billing  # noqa: E402
from billing.ledger.accounts import account, lock_purse, open_accounts  # noqa: E402
from billing.ledger.post import Entry, post  # noqa: E402
from billing.models import AccountKind, CauseType, RentalMeter, TransactionKind  # noqa: E402
from devstack.postgres import drop_database  # noqa: E402
from kernel.clock import hour_of, now  # noqa: E402
from kernel.ids import new_id  # noqa: E402
from marketplace.rentals.charge import charge  # noqa: E402
from provisioner.models import Cluster, Instance, ReadyInterval  # noqa: E402
from tests.crowd.scratch import scratch_database  # noqa: E402
from tests.market import USD, make_renter, make_supply, order  # noqa: E402

ORGS, PROVIDERS = 200, 20
GOAL = 1.3
HOUR = timedelta(hours=1)

# Rows like one that the product made, with keys of their own. The ids of the copies derive from
# their number, so that rows of several tables find each other.
COPY = """
INSERT INTO {table} ({columns})
SELECT {columns} FROM (
  SELECT (jsonb_populate_record(one, {changes})).*
    FROM {table} one, generate_series(1, %(count)s) AS number
   WHERE one.{key} = %(pattern)s
) copies
"""
REF = "overlay(%(prefix)s::text placing lpad(to_hex(number), 8, '0') from 29)"

FLOOR = """
WITH due AS MATERIALIZED (
  SELECT r.id AS interval_id, m.*,
         r.charged_to AS from_at, r.charged_to + interval '1 hour' AS to_at,
         {id} AS line_id, {id} AS txn_id, {id} AS refill_id,
         t.id AS tenant_id, h.id AS hold_id, p.id AS provider_id,
         m.price_micro_h * (m.billable_seconds + 3600) / 3600
           - m.price_micro_h * m.billable_seconds / 3600 AS amount,
         m.provider_micro_h * (m.billable_seconds + 3600) / 3600
           - m.provider_micro_h * m.billable_seconds / 3600 AS share,
         (m.price_micro_h * 4500 + 3599) / 3600 AS full_hold
    FROM provisioner_readyinterval r
    JOIN billing_rentalmeter m ON m.rental_ref = r.rental_ref
    JOIN billing_account t ON t.kind = 'tenant' AND t.owner_ref = m.org_ref
    JOIN billing_account h ON h.kind = 'tenant_hold' AND h.owner_ref = m.org_ref
    JOIN billing_account p ON p.kind = 'provider_pending' AND p.owner_ref = m.provider_ref
   WHERE r.cluster_id = %(cluster)s AND NOT r.settled
), ack AS (
  UPDATE provisioner_readyinterval r SET charged_to = due.to_at
    FROM due WHERE r.id = due.interval_id
), txn AS (
  INSERT INTO billing_transaction (id, kind, cause_type, cause_id)
  SELECT txn_id, 'usage', 'usage', line_id FROM due
  UNION ALL SELECT refill_id, 'hold_refill', 'rental', rental_ref FROM due
), posting AS (
  INSERT INTO billing_posting (txn_id, account_id, amount_micro, currency)
  SELECT txn_id, hold_id, -amount, 'USD' FROM due
  UNION ALL SELECT txn_id, provider_id, share, 'USD' FROM due
  UNION ALL SELECT txn_id, %(revenue)s, amount - share, 'USD' FROM due
  UNION ALL SELECT refill_id, tenant_id, held_micro - amount - full_hold, 'USD' FROM due
  UNION ALL SELECT refill_id, hold_id, full_hold - held_micro + amount, 'USD' FROM due
), usage AS (
  INSERT INTO billing_usageline
         (id, rental_ref, seq, source_ref, from_at, to_at, seconds, gpus, price_micro_h,
          amount_micro, provider_micro, fee_micro, overrun_micro, txn_id)
  SELECT line_id, rental_ref, next_seq, interval_id, from_at, to_at, 3600, gpus, price_micro_h,
         amount, share, amount - share, 0, txn_id FROM due
)
UPDATE billing_rentalmeter m
   SET billable_seconds = m.billable_seconds + 3600, charged_micro = m.charged_micro + due.amount,
       provider_charged_micro = m.provider_charged_micro + due.share, charged_until = due.to_at,
       next_seq = m.next_seq + 1, held_micro = due.full_hold,
       paid_until = due.to_at + make_interval(secs => due.full_hold * 3600 / m.price_micro_h)
  FROM due WHERE m.rental_ref = due.rental_ref
""".replace(
    "{id}",
    "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')"
    " || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid",
)

SUMS = """
SELECT (SELECT count(*) FROM billing_usageline),
       (SELECT count(*) FROM billing_transaction), (SELECT count(*) FROM billing_posting),
       (SELECT sum(amount_micro) FROM billing_usageline),
       (SELECT sum(provider_micro) FROM billing_usageline),
       (SELECT sum(held_micro) FROM billing_rentalmeter),
       (SELECT sum(balance_micro * (floor_micro + 1)) FROM billing_account WHERE kind = 'tenant'),
       (SELECT sum(extract(epoch FROM paid_until)) FROM billing_rentalmeter),
       (SELECT sum(extract(epoch FROM charged_to)) FROM provisioner_readyinterval)
"""


def seed(rentals: int, clusters: int, since: datetime) -> list[UUID]:
    """Running rentals that are charged up to ``since``; the clusters they lie in."""
    renters = [make_renter(f"Org {number}", credit=10**6 * USD) for number in range(ORGS)]
    owners = [make_renter(f"Owner {number}", credit=0) for number in range(PROVIDERS)]
    supplies = [make_supply(1, owner=owner) for owner in (owners * clusters)[:clusters]]
    keys = []
    share = rentals // clusters
    for number, supply in enumerate(supplies):
        renters[0].call("POST", "/rentals", order(supply.offer))
        instance = Instance.objects.get(cluster=supply.cluster)
        meter = RentalMeter.objects.get(pk=instance.rental_ref)
        interval = ReadyInterval.objects.create(
            instance=instance,
            cluster=supply.cluster,
            rental_ref=instance.rental_ref,
            gpus=1,
            pod_uid="uid",
            opened_at=since,
            charged_to=since,
        )
        prefix = {"instance": new_id(), "rental": new_id(), "interval": new_id()}
        texts = {f"{name}_prefix": str(value) for name, value in prefix.items()}
        ids = {name: REF.replace("prefix", f"{name}_prefix") for name in prefix}
        given: dict[str, Any] = {**texts, "count": share, "since": since.isoformat()}
        given |= {
            "orgs": [str(renter.org) for renter in renters],
            "owners": [str(supply.provider.id) for supply in supplies],
        }
        _copy(
            Instance,
            instance.pk,
            {
                "id": ids["instance"],
                "rental_ref": ids["rental"],
                "pod_name": f"'gy-' || {ids['instance']}",
                "state": "'ready'",
                "due_at": "NULL",
                "lease_due_at": "NULL",
            },
            given,
        )
        _copy(
            ReadyInterval,
            interval.pk,
            {
                "id": ids["interval"],
                "instance_id": ids["instance"],
                "rental_ref": ids["rental"],
            },
            given,
        )
        _copy(
            RentalMeter,
            meter.pk,
            {
                "rental_ref": ids["rental"],
                "org_ref": f"(%(orgs)s::text[])[1 + number %% {ORGS}]",
                "provider_ref": f"(%(owners)s::text[])[1 + number %% {len(supplies)}]",
                "price_micro_h": "1999000 + number",
                "provider_micro_h": "1699000 + number",
                "held_micro": "1999000 + number",
                "running_since": "%(since)s",
                "paid_until": "%(since)s::timestamptz + interval '1 hour'",
            },
            given,
        )
        interval.delete()
        keys.append(supply.cluster.pk)
        print(f"{(number + 1) * share} rentals", flush=True)
    open_accounts({(AccountKind.PROVIDER_PENDING, one.provider.id) for one in supplies})
    open_accounts({(AccountKind.REVENUE, None), (AccountKind.PLATFORM_COST, None)})
    _hold(renters)
    Cluster.objects.filter(pk__in=keys).update(last_positive_at=since)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return keys


def _copy(model: Any, pattern: UUID, changes: dict[str, str], given: dict[str, Any]) -> None:
    columns = [f'"{f.column}"' for f in model._meta.concrete_fields if not f.generated]
    pairs = ", ".join(f"'{name}', {value}" for name, value in changes.items())
    statement = COPY.format(
        table=model._meta.db_table,
        columns=", ".join(columns),
        key=model._meta.pk.column,
        changes=f"jsonb_build_object({pairs})",
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, {**given, "pattern": pattern})


def _hold(renters: list[Any]) -> None:
    """The money that the copied meters hold, one movement per tenant."""
    for renter in renters:
        with transaction.atomic():
            meters = RentalMeter.objects.filter(org_ref=renter.org)
            missing = sum(meters.values_list("held_micro", flat=True))
            purse = lock_purse(renter.org)
            missing -= billing.balance(org_ref=renter.org).held_micro
            legs = ((purse.tenant, -missing), (purse.hold, missing))
            post([Entry(TransactionKind.HOLD, CauseType.RENTAL, new_id(), legs)])


def tick(cluster: UUID, until: datetime) -> float:
    """Seconds that the product takes to charge an hour of all rentals in one cluster."""
    Cluster.objects.filter(pk=cluster).update(last_positive_at=until)
    began = time.monotonic()
    charge()
    return time.monotonic() - began


def plain(floor: psycopg.Connection[Any], cluster: UUID, revenue: UUID) -> float:
    began = time.monotonic()
    floor.execute(FLOOR, {"cluster": cluster, "revenue": revenue})
    floor.commit()
    return time.monotonic() - began


def run(rentals: int, pairs: int) -> dict[str, Any]:
    with scratch_database("gpuyard_tick") as url:
        since = hour_of(now()) - 2 * HOUR
        # One more cluster than pairs: what the first tick plans and loads is not measured.
        keys = seed(rentals * (pairs + 1) // pairs, pairs + 1, since)
        copy = urlunsplit(urlsplit(url)._replace(path="/gpuyard_tick_floor"))
        connection.close()
        with psycopg.connect(urlunsplit(urlsplit(url)._replace(path="/postgres"))) as admin:
            admin.autocommit = True
            drop_database(admin, "gpuyard_tick_floor")
            admin.execute("CREATE DATABASE gpuyard_tick_floor TEMPLATE gpuyard_tick")
            try:
                with psycopg.connect(copy) as floor:
                    return measure(floor, keys, since + HOUR)
            finally:
                drop_database(admin, "gpuyard_tick_floor")


def measure(floor: psycopg.Connection[Any], keys: list[UUID], until: datetime) -> dict[str, Any]:
    tick_s, plain_s = [], []
    revenue = account(AccountKind.REVENUE)
    for number, cluster in enumerate(keys):
        if number % 2:
            tick_s.append(tick(cluster, until))
        plain_s.append(plain(floor, cluster, revenue))
        if not number % 2:
            tick_s.append(tick(cluster, until))
        print(f"tick {tick_s[-1]:.2f} s, plain {plain_s[-1]:.2f} s", flush=True)
    with connection.cursor() as cursor:
        cursor.execute(SUMS)
        found = cursor.fetchone()
    wanted = floor.execute(SUMS).fetchone()
    ratios = sorted(a / b for a, b in zip(tick_s[1:], plain_s[1:], strict=True))
    rows = RentalMeter.objects.filter(billable_seconds__gt=0).count()
    each = rows / len(keys)
    return {
        "bench": "tick",
        "rentals": int(each * (len(keys) - 1)),
        "floor_rows_per_s": round(each / statistics.median(plain_s[1:])),
        "figure_rows_per_s": round(each / statistics.median(tick_s[1:])),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_pairs": [round(ratios[0], 3), round(ratios[-1], 3)],
        "goal_ratio": GOAL,
        "same_money": found == wanted,
        "balanced": billing.books().balanced,
        "load": os.getloadavg()[0],
        "ok": found == wanted and statistics.median(ratios) < GOAL,
    }


def main(rentals: int, pairs: int) -> int:
    result = run(rentals, pairs)
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*[*given, *(100_000, 5)[len(given) :]]))
