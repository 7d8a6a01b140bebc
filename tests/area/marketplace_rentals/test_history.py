"""Samples of stock and prices: one an hour, whoever takes it how often; read by day and hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import hour_of, now
from marketplace.accounts import switches
from marketplace.catalog import history
from marketplace.catalog.history import CardHistory, HourStock, stock_steps
from marketplace.models import CardSample, Rental
from tests.market import H100, USD, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db
ASCEND = "ascend-910b"


def sample(hour: datetime, **changes: Any) -> CardSample:
    given = {
        "accelerator": H100,
        "hour": hour,
        "offers": 1,
        "slots_total": 8,
        "slots_free": 4,
        "largest_block": 4,
        "lowest_micro": 2 * USD,
        "median_micro": 3 * USD,
        **changes,
    }
    return CardSample.objects.create(**given)


def test_an_hour_has_one_sample_of_each_card_on_sale() -> None:
    make_supply(8, 2, price=2 * USD)
    make_supply(4, price=3 * USD, region="us-east")
    make_supply(4, price=5 * USD, region="us-east")
    make_supply(1, accelerator=ASCEND, price=USD)
    make_supply(1, accelerator="nvidia-rtx-4090", price=None)
    assert history.record() == 2
    assert history.record() == 0, "the hour has its sample"
    row = CardSample.objects.get(accelerator=H100)
    assert row.hour == hour_of(now())
    assert (row.offers, row.slots_total, row.slots_free, row.largest_block) == (3, 18, 18, 8)
    assert (row.lowest_micro, row.median_micro) == (2 * USD, 3 * USD)
    assert (row.rented_gpus, row.rented_micro) == (None, None)
    assert CardSample.objects.get(accelerator=ASCEND).slots_total == 1


def test_two_workers_at_once_take_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second looked before the first had written: the table keeps one."""
    make_supply(8)
    history.record()
    none = CardSample.objects.none()
    with monkeypatch.context() as late:
        late.setattr(CardSample.objects, "filter", lambda **_: none)
        history.record()
    assert CardSample.objects.count() == 1


def test_what_is_paid_is_told_of_several_renters_only() -> None:
    supply = make_supply(8, price=2 * USD)
    first, second = make_renter(), make_renter()
    for renter, gpus in ((first, 1), (first, 2), (second, 1)):
        assert renter.call("POST", "/rentals", order(supply.offer, gpus))[0] == 202
    Rental.objects.update(state=Rental.State.RUNNING)
    Rental.objects.filter(organization=second.org).update(state=Rental.State.STOPPED)
    history.record()
    assert CardSample.objects.get().rented_gpus is None, "of one renter nothing is told"
    CardSample.objects.all().delete()
    Rental.objects.update(state=Rental.State.RUNNING)
    history.record()
    row = CardSample.objects.get()
    assert (row.rented_gpus, row.rented_micro) == (4, 8 * USD)
    CardSample.objects.all().delete()
    Rental.objects.filter(organization=second.org).update(interruptible=True)
    history.record()
    assert CardSample.objects.get().rented_gpus is None, "another use has another price"


def test_old_samples_are_forgotten() -> None:
    hour = hour_of(now())
    kept = sample(hour - history.KEPT + timedelta(hours=1))
    sample(hour - history.KEPT - timedelta(hours=1))
    assert history.forget() == 1
    assert list(CardSample.objects.all()) == [kept]


def test_days_have_the_lowest_and_the_median_and_gaps_stay_gaps() -> None:
    today = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before = today - timedelta(days=2)
    sample(before, lowest_micro=2 * USD, median_micro=3 * USD)
    sample(before + timedelta(hours=1), lowest_micro=USD, median_micro=5 * USD,
           rented_gpus=3, rented_micro=9 * USD)  # fmt: skip
    sample(before + timedelta(hours=23), median_micro=4 * USD, rented_gpus=1, rented_micro=USD)
    sample(before - timedelta(days=7))
    sample(today, accelerator=ASCEND)
    switches.stopped_clusters()
    with CaptureQueriesContext(connection) as queries:
        found = history.history(H100, days=7)
    assert len(queries) == 2, "the time and the samples"
    days = {day.day: day for day in found.days}
    assert len(found.days) == 7
    assert found.days[-1].day == today.date()
    there = days[before.date()]
    assert (there.lowest_micro, there.median_micro) == (USD, 4 * USD)
    assert there.rented_micro == 10 * USD // 4
    assert all(
        (day.lowest_micro, day.median_micro, day.rented_micro) == (None, None, None)
        for day in found.days
        if day is not there
    )
    assert [hour.hour for hour in found.hours] == [
        before, before + timedelta(hours=1), before + timedelta(hours=23)
    ]  # fmt: skip


def test_steps_are_means_and_none_where_nobody_looked() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)

    def at(hour: int, free: int) -> HourStock:
        return HourStock(since + timedelta(hours=hour), free, 10, free)

    found = CardHistory(since, since + timedelta(hours=9), [], [at(0, 4), at(3, 7), at(8, 1)])
    steps = stock_steps(found, hours=4)
    assert steps == [
        HourStock(since, 6, 10, 6), None, HourStock(since + timedelta(hours=8), 1, 10, 1)
    ]  # fmt: skip
    assert [step.free if step else None for step in stock_steps(found, hours=1)] == [
        4, None, None, 7, None, None, None, None, 1, None
    ]  # fmt: skip


def test_the_history_is_public_and_strict() -> None:
    make_supply(8, price=2 * USD)
    history.record()
    status, shown = public_get(f"/accelerators/{H100}/history?days=7")
    assert status == 200
    assert (shown["accelerator"], shown["days"], shown["currency"]) == (H100, 7, "USD")
    assert len(shown["prices"]) == 7
    assert shown["prices"][-1] == {
        "day": now().astimezone(UTC).date().isoformat(),
        "lowest": "2.0000",
        "median": "2.0000",
        "rented": None,
    }
    assert [(hour["free"], hour["total"]) for hour in shown["stock"]] == [(8, 8)]
    assert len(public_get(f"/accelerators/{H100}/history")[1]["prices"]) == 30
    assert public_get(f"/accelerators/{H100}/history?days=8")[0] == 400
    assert public_get(f"/accelerators/{H100}/history?day=7")[0] == 400
    assert public_get("/accelerators/nothing/history")[0] == 404
