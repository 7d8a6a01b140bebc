"""Many tenants whose money ends in the same second: the real sweep, the real stop, database time.

The suites run it with 100; TENANTS=1000 in the environment measures what is to be promised.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models import F, Max, Sum

from billing import facade as billing
from billing.models import Account, RentalMeter
from kernel.clock import floor_second, now
from kernel.ids import parse
from marketplace import tasks
from marketplace.models import Rental, RentalEvent
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from provisioner.contracts import InstanceState as S
from provisioner.instances import meter
from provisioner.instances.move import move
from provisioner.models import Instance
from tests.market import USD, make_renter, make_supply, observe, order
from tests.races.test_billing_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

TENANTS = int(os.environ.get("TENANTS", "100"))
# The sweep runs every five seconds: it begins so late at worst.
LATE = timedelta(seconds=5)
# Stopped and charged by several at once: a few batches of a sweep.
SHARED = 90
# The promise.
LONGEST_UNPAID = timedelta(seconds=60)

_TENANTS = """
CREATE TEMPORARY TABLE crowd AS
SELECT n, app_new_id() AS org, app_new_id() AS rental, app_new_id() AS instance,
       app_new_id() AS tenant, app_new_id() AS hold, app_new_id() AS paid, app_new_id() AS held
  FROM generate_series(1, %(count)s) AS n;

INSERT INTO marketplace_organization
SELECT (jsonb_populate_record(NULL::marketplace_organization,
          to_jsonb(o) || jsonb_build_object('id', org))).*
  FROM crowd, marketplace_organization o WHERE o.id = %(org)s;

INSERT INTO marketplace_rental
SELECT (jsonb_populate_record(NULL::marketplace_rental, to_jsonb(r) || jsonb_build_object(
          'id', rental, 'organization_id', org, 'instance_ref', instance))).*
  FROM crowd, marketplace_rental r WHERE r.id = %(rental)s;

INSERT INTO marketplace_rentalevent (id, rental_id, seq, at, state, reason, actor, text, evidence)
SELECT app_new_id(), crowd.rental, e.seq, e.at, e.state, e.reason, e.actor, e.text, e.evidence
  FROM crowd, marketplace_rentalevent e WHERE e.rental_id = %(rental)s;

INSERT INTO provisioner_instance
SELECT (jsonb_populate_record(NULL::provisioner_instance, to_jsonb(i) || jsonb_build_object(
          'id', instance, 'rental_ref', rental, 'tenant_ref', org, 'pod_name', 'crowd-' || n,
          'pod_uid', 'crowd-' || n))).*
  FROM crowd, provisioner_instance i WHERE i.rental_ref = %(rental)s;

INSERT INTO provisioner_readyinterval
SELECT (jsonb_populate_record(NULL::provisioner_readyinterval,
          to_jsonb(v) || jsonb_build_object('id', app_new_id(), 'instance_id', instance,
          'rental_ref', rental, 'pod_uid', 'crowd-' || n,
          'opened_at', %(begin)s::timestamptz, 'charged_to', %(begin)s::timestamptz))).*
  FROM crowd, provisioner_readyinterval v WHERE v.rental_ref = %(rental)s;

INSERT INTO billing_account
       (id, kind, owner_ref, currency, balance_micro, credit_limit_micro, receivable_micro)
SELECT a.id, a.kind, org, 'USD', 0, 0, 0
  FROM crowd, LATERAL (VALUES (tenant, 'tenant'), (hold, 'tenant_hold')) AS a (id, kind);

INSERT INTO billing_rentalmeter
SELECT (jsonb_populate_record(NULL::billing_rentalmeter, to_jsonb(m) || jsonb_build_object(
          'rental_ref', rental, 'org_ref', org, 'running_since', %(begin)s::timestamptz,
          'paid_until', %(begin)s::timestamptz + interval '1 hour'))).*
  FROM crowd, billing_rentalmeter m WHERE m.rental_ref = %(rental)s;

INSERT INTO billing_transaction (id, kind, cause_type, cause_id)
SELECT paid, 'topup', 'payment', org FROM crowd UNION ALL
SELECT held, 'hold', 'rental', rental FROM crowd;

INSERT INTO billing_posting (txn_id, account_id, amount_micro, currency)
SELECT leg.*, 'USD' FROM crowd,
       (SELECT id FROM billing_account WHERE kind = 'stripe_cash') AS cash (cash),
       LATERAL (VALUES (paid, tenant, %(price)s), (paid, cash, -%(price)s),
                       (held, tenant, -%(price)s), (held, hold, %(price)s))
         AS leg (txn_id, account_id, amount_micro);

ANALYZE;
"""


def crowd(count: int) -> datetime:
    """A running rental, then ``count`` tenants with one like it, each paid for one hour that ended
    LATE ago, and nothing else; the moment at which it ended."""
    renter, supply = make_renter(credit=1000 * USD), make_supply(1)
    body = order(supply.offer, max_hours=..., no_limit=True)
    rental = parse("rental", renter.call("POST", "/rentals", body)[1]["id"])
    for state, reason in (
        (S.CREATING, "creating"), (S.PULLING, "pulling"), (S.STARTING, "starting")
    ):  # fmt: skip
        assert move(Instance.objects.get(), to=state, reason=reason, at=now())
    ready: dict[str, Any] = {"proof": {"devices": 1}, "pod_uid": "uid-1"}
    assert move(Instance.objects.get(), to=S.READY, reason="ready", at=now(), **ready)
    following.follow()
    begin = floor_second(now()) - LATE - timedelta(hours=1)
    values: dict[str, Any] = {
        "count": count,
        "org": renter.org,
        "rental": rental,
        "begin": begin,
        "price": 2 * USD,
    }
    with connection.cursor() as cursor:
        for statement in _TENANTS.split(";\n\n"):
            cursor.execute(statement, values)
    observe(supply.cluster)
    return begin + timedelta(hours=1)


def test_very_many_tenants_reach_zero_in_the_same_second(record_property):
    """No floor broken, every rental stopped, the longest unpaid use under 60 s."""
    paid_until = crowd(TENANTS)
    paying = Rental.objects.exclude(organization__in=_crowd())
    before = billing.books()
    assert before.balanced
    began = now()
    tasks.funds()
    took = now() - began

    stopped = Rental.objects.filter(organization__in=_crowd())
    assert stopped.count() == TENANTS
    assert set(stopped.values_list("state", "reason", "desired_state")) == {
        ("stopping", "funds", "stopped")
    }
    assert [rental.state for rental in paying] == ["running"], "who has money runs on"
    last = stopped.aggregate(last=Max("stop_ack_at"))["last"]
    unpaid = last - paid_until
    record_property("longest_unpaid_seconds", unpaid.total_seconds())
    print(f"{TENANTS} tenants: sweep {took}, longest unpaid use {unpaid}")
    assert unpaid < LONGEST_UNPAID

    with transaction.atomic():
        for instance_id in Instance.objects.filter(desired="end").values_list("id", flat=True):
            meter.confirm(instance_id, unchanged=True)  # as the answer to its deletion says
    charging.charge()
    crowded = RentalMeter.objects.filter(org_ref__in=_crowd())
    overrun = crowded.aggregate(most=Max(F("overrun_micro") * 3600 / F("price_micro_h")))["most"]
    assert LATE.total_seconds() <= overrun <= unpaid.total_seconds(), "the platform pays it"
    charged = crowded.aggregate(sum=Sum(F("charged_micro") - F("overrun_micro")))["sum"]
    assert charged == TENANTS * 2 * USD, "their hour, and nothing beyond it"
    owners = Account.objects.filter(kind="tenant", owner_ref__in=_crowd())
    assert not owners.filter(balance_micro__lt=F("floor_micro")).exists()
    books = billing.books()
    assert (books.balanced, books.below_floor) == (True, 0)


def test_sweeps_and_chargers_that_meet_share_the_work():
    """Beats that overtake a long sweep take what it has not locked; no two wait for each other."""
    crowd(SHARED)

    def work(number: int) -> str:
        if number % 2:
            tasks.funds()
        else:
            charging.charge(batch=SHARED // 3)
        return "done"

    assert at_once(6, work) == ["done"] * 6
    tasks.funds()  # whatever a charger had locked when all of them looked
    stopped = Rental.objects.filter(organization__in=_crowd())
    assert set(stopped.values_list("state", "reason")) == {("stopping", "funds")}
    said = RentalEvent.objects.filter(rental__in=stopped, state="stopping")
    assert said.count() == SHARED, "each was stopped once"
    books = billing.books()
    assert (books.balanced, books.below_floor) == (True, 0)


def _crowd() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT org FROM crowd")
        return [row[0] for row in cursor.fetchall()]
