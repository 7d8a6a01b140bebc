"""The statement that settles thousands against a count one by one, over random weeks of use."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from billing import facade
from billing.contracts.meters import MeterKind
from billing.models import RentalMeter, UsageLine
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    limit,
    open_org,
    owed_tax,
    rent,
    start,
    taxed,
    use,
    window,
)
from tests.area.billing.recount import Recount, Rental

pytestmark = pytest.mark.django_db

At = Callable[[datetime], None]
SECOND = timedelta(seconds=1)
Window = tuple[UUID, datetime, datetime]


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_count_one_by_one(at: At, seed: int, settings: Any) -> None:
    """Half of the weeks with tax on use, at rates that divide badly."""
    rng = random.Random(seed)
    settings.GPUYARD_TAX_POINT = ("none", "use")[seed % 2]
    truth, providers = _world(rng, at)
    for number, windows in enumerate(_ticks(rng, list(truth.rentals))):
        at(max([end for _, _, end in windows], default=DAY + timedelta(hours=number)))
        for key in rng.sample(list(truth.rentals), 2):
            _start(truth, key, DAY + timedelta(minutes=rng.randrange(60)))
        truth.tick(windows)
        sent = [window(key, begin, (end - begin) // SECOND) for key, begin, end in windows]
        rng.shuffle(sent)
        assert use(*sent) == len(sent)
        _agree(truth, providers)
        # The sweep refills those that are due by its own clock.
        present = DAY + timedelta(hours=number + rng.choice([1, 2, 4]))
        at(present)
        due = {
            key
            for key, one in truth.rentals.items()
            if not one.disk and one.paid_until is not None and one.paid_until <= present
        }
        truth.refill(due, present)
        ends = {key: truth.rentals[key].paid_until for key in due}
        unpaid = {key for key, end in ends.items() if end is not None and end <= present}
        assert set(facade.exhausted(limit=100)) == unpaid
        _agree(truth, providers)
    assert facade.books().balanced
    assert any(one.overrun for one in truth.rentals.values())


@pytest.mark.parametrize("seed", range(20))
def test_windows_in_any_order_and_overlapping_are_charged_once(at: At, seed: int) -> None:
    """Sent in batches that repeat and overlap, seconds proven late among them."""
    rng = random.Random(seed)
    at(DAY + timedelta(hours=9))
    org = open_org()
    credit(org, 100 * USD)
    keys = [rent(org, price_micro_h=rng.randrange(1, USD)) for _ in range(3)]
    seen: dict[UUID, set[int]] = {key: set() for key in keys}
    for _ in range(6):
        batch = []
        for _ in range(rng.randint(1, 8)):
            key, hour = rng.choice(keys), rng.randrange(3)
            first, last = sorted(rng.sample(range(3601), 2))
            batch.append(window(key, DAY + timedelta(hours=hour, seconds=first), last - first))
            seen[key] |= set(range(3600 * hour + first, 3600 * hour + last))
        use(*batch)
        for key in keys:
            lines = UsageLine.objects.filter(meter=key)
            seconds = [
                (line.from_at - DAY) // SECOND + each
                for line in lines
                for each in range(line.seconds)
            ]
            assert sorted(seconds) == sorted(seen[key])
            meter = RentalMeter.objects.get(pk=key)
            assert meter.billable_seconds == len(seconds)
            assert meter.charged_micro == meter.price_micro_h * len(seconds) // 3600
            assert sum(line.amount_micro for line in lines) == meter.charged_micro
        assert use(*batch) == 0


def _world(rng: random.Random, at: At) -> tuple[Recount, dict[UUID, UUID]]:
    """Rich and poor tenants, pre- and post-paid; prices that divide badly; two providers."""
    at(DAY)
    truth, providers, owners = Recount({}, {}), {}, [new_id(), new_id()]
    for money in (4 * USD, 8 * USD, 15 * USD, 400 * USD):  # the first cannot pay what it uses
        org = open_org()
        ppm = rng.choice([0, 1, 88_750, 190_000, 333_333, 1_000_000])
        taxed(org, ppm)
        (credit if rng.random() < 0.6 else limit)(org, money)
        truth.funds[org] = money
        for number in range(rng.randint(1, 3)):
            price = rng.choice([0, 1, 3599, 1_999_999, 2 * USD, rng.randrange(1, 2 * USD)])
            price = 2 * USD if number == 0 else price // 2
            share = rng.choice([0, price, price * 85 // 100])
            owner = rng.choice(owners)
            kind = MeterKind.DISK if number and rng.random() < 0.3 else MeterKind.GPU
            price_of = {"price_micro_h": price, "provider_micro_h": share, "provider_ref": owner}
            key = rent(org, kind=kind, **price_of)
            meter = RentalMeter.objects.get(pk=key)
            held, rented = meter.held_micro, meter.created_at
            disk = kind == MeterKind.DISK
            rate = Fraction(meter.tax_ppm, 1_000_000)
            assert meter.tax_ppm == (ppm if settings.GPUYARD_TAX_POINT == "use" else 0)
            rental = Rental(key, org, price, share, held, rented, disk=disk, tax=rate)
            truth.rentals[key] = rental
            truth.funds[org] -= meter.held_micro
            providers[key] = owner
    return truth, providers


def _start(truth: Recount, key: UUID, moment: datetime) -> None:
    """Run it, in both. A rental runs once; its paid time is that of its meter."""
    rental = truth.rentals[key]
    if rental.since is None:
        start(key, moment)
        rental.since = moment
        rental.paid_until = RentalMeter.objects.get(pk=key).paid_until


def _ticks(rng: random.Random, keys: list[UUID]) -> Iterator[list[Window]]:
    """For some hours: of most rentals none, one or several windows that touch nothing before."""
    for hour in range(8):
        begin = DAY + timedelta(hours=hour)
        yield [one for key in keys if rng.random() < 0.8 for one in _hour(rng, key, begin)]


def _hour(rng: random.Random, key: UUID, begin: datetime) -> Iterator[Window]:
    if rng.random() < 0.6:
        yield key, begin, begin + timedelta(hours=1)
        return
    marks = sorted(rng.sample(range(3601), 2 * rng.randint(1, 3)))
    for first, last in zip(marks[::2], marks[1::2], strict=True):
        yield key, begin + timedelta(seconds=first), begin + timedelta(seconds=last)


def _agree(truth: Recount, providers: dict[UUID, UUID]) -> None:
    for org, funds in truth.funds.items():
        view = facade.balance(org_ref=org)
        held = sum(one.held for one in truth.rentals.values() if one.org == org)
        assert (view.spendable_micro, view.held_micro) == (funds, held)
    for key, one in truth.rentals.items():
        meter = RentalMeter.objects.get(pk=key)
        assert (meter.held_micro, meter.paid_until) == (one.held, one.paid_until)
        assert (meter.billable_seconds, meter.charged_until) == (one.seconds, one.until)
        assert meter.charged_micro == one.price * one.seconds // 3600
        assert meter.provider_charged_micro == one.earned == one.share * one.seconds // 3600
        assert meter.overrun_micro == one.overrun
        lines = UsageLine.objects.filter(meter=key).order_by("seq")
        fields = (
            "from_at",
            "to_at",
            "amount_micro",
            "provider_micro",
            "overrun_micro",
            "tax_micro",
        )
        assert list(lines.values_list(*fields)) == one.lines
        assert [line.seq for line in lines] == list(range(1, meter.next_seq))
    assert owed_tax() == sum(one.taxed for one in truth.rentals.values())
    for owner in set(providers.values()):
        earned = sum(truth.rentals[key].earned for key, who in providers.items() if who == owner)
        assert facade.earnings(provider_ref=owner).pending_micro == earned
