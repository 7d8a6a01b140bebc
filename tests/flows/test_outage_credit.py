"""What a fault breaks off is credited on top of not being charged, at the cost of whose fault."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db.models import Sum

from billing import facade as billing
from billing.models import AccountKind, Posting, TransactionKind
from kernel.ids import parse
from marketplace.models import RentalEvent
from marketplace.rentals.outage import compensate
from provisioner.models import ReadyInterval
from tests.flows.stage import NOON, Platform, act, rent, show
from tests.market import Renter, Supply

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
PRICE_H, SHARE_H = 4_000_000, 3_400_000  # two cards at 2.0000 and 85 % of it


def running(platform: Platform, renter: Renter, supply: Supply, **changes) -> str:
    rental = rent(renter, supply, **changes)
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + 10 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    return rental


def moved(kind: TransactionKind, account: AccountKind, cause: str | None = None) -> int:
    legs = Posting.objects.filter(txn__kind=kind, account__kind=account)
    if cause:
        legs = legs.filter(txn__cause_type=cause)
    return legs.aggregate(total=Sum("amount_micro"))["total"] or 0


def gap(rental: str) -> tuple[datetime, datetime]:
    """From the proof that a fault ended to the next one."""
    ref: UUID = parse("rental", rental)
    first, second = ReadyInterval.objects.filter(rental_ref=ref).order_by("opened_at")[:2]
    assert first.closed_at is not None
    return first.closed_at, second.opened_at


def seconds(begin: datetime, end: datetime) -> int:
    return int((end - begin).total_seconds())


def test_an_unreachable_cluster_is_credited_by_the_platform_to_the_second(platform, renter, supply):
    rental = running(platform, renter, supply)
    platform.cluster.down = True
    platform.until(NOON + 15 * MINUTE)
    assert show(renter, rental)["state"] == "unreachable"
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == 0
    platform.cluster.down = False
    platform.until(NOON + 20 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    credit = PRICE_H * seconds(*gap(rental)) // 3600
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == credit > 300_000
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.PLATFORM_COST) == -credit
    assert moved(TransactionKind.PROVIDER_GAP, AccountKind.PROVIDER_PENDING) == 0, "cause unknown"
    told = RentalEvent.objects.filter(rental=parse("rental", rental), text__contains="credited")
    assert told.count() == 1
    platform.until(NOON + 22 * MINUTE)
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == credit, "once"
    assert billing.books().balanced


def test_a_long_one_is_credited_while_it_lasts_and_not_beyond_the_renters_wait(
    platform, renter, supply
):
    rental = running(platform, renter, supply)
    platform.cluster.down = True
    platform.until(NOON + 20 * MINUTE + timedelta(seconds=40))
    begin = ReadyInterval.objects.get(rental_ref=parse("rental", rental)).closed_at
    assert begin is not None
    if show(renter, rental)["state"] == "unreachable":
        assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == PRICE_H * 600 // 3600
    status, _ = act(renter, rental, "terminate")
    assert status == 202
    asked = platform.moment
    platform.until(NOON + 40 * MINUTE)
    ends = RentalEvent.objects.filter(
        rental=parse("rental", rental), state__in=["failed", "terminating"]
    )
    over = min([asked, *ends.values_list("at", flat=True)])
    credit = PRICE_H * seconds(begin, over) // 3600
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == credit
    assert not ReadyInterval.objects.filter(interrupts=True).exists()


def test_a_gap_of_our_own_making_pays_the_owner_its_share(platform, renter, supply):
    rental = running(platform, renter, supply)
    platform.at(NOON + 40 * MINUTE)  # nothing of ours ran for half an hour
    platform.turn()
    platform.until(NOON + 42 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    begin, end = gap(rental)
    assert seconds(begin, end) > 29 * 60
    assert moved(TransactionKind.PROVIDER_GAP, AccountKind.PROVIDER_PENDING) == (
        SHARE_H * seconds(begin, end) // 3600
    )
    credit = PRICE_H * seconds(begin, end) // 3600
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == credit
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.PROVIDER_PENDING) == 0
    compensate()
    paid = moved(TransactionKind.PROVIDER_GAP, AccountKind.PROVIDER_PENDING)
    assert paid == SHARE_H * seconds(begin, end) // 3600, "once"
    assert billing.books().balanced


def test_a_lost_host_funds_it_with_what_the_rental_brought_it_and_no_more(platform, renter, supply):
    rental = running(platform, renter, supply)
    platform.cluster.pods.clear()
    platform.until(NOON + 15 * MINUTE)
    lost = show(renter, rental)
    assert (lost["state"], lost["reason"]) == ("failed", "host_lost")
    credit = moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT)
    borne = -moved(TransactionKind.OUTAGE_CREDIT, AccountKind.PROVIDER_PENDING)
    assert credit > 0
    earned = moved(TransactionKind.USAGE, AccountKind.PROVIDER_PENDING)
    assert borne == min(credit, earned) > 0
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.PLATFORM_COST) == borne - credit
    assert billing.books().balanced


def test_who_stops_or_restarts_it_or_lets_its_program_end_gets_no_credit(platform, renter, supply):
    rental = running(platform, renter, supply)
    platform.cluster.crash()
    platform.until(NOON + 12 * MINUTE)
    act(renter, rental, "stop")
    platform.until(NOON + 20 * MINUTE)
    assert show(renter, rental)["state"] == "stopped"
    assert moved(TransactionKind.OUTAGE_CREDIT, AccountKind.TENANT) == 0
    assert not ReadyInterval.objects.filter(interrupts=True).exists()
