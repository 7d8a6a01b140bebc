"""From windows to money through the door: charged once, held, refilled, never past the floor."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import facade
from billing.models import RentalMeter, UsageLine
from kernel.errors import Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    end,
    limit,
    open_org,
    rent,
    start,
    stop,
    terms,
    use,
    window,
)
from tests.columns import columns

pytestmark = pytest.mark.django_db


def purse(org):
    view = facade.balance(org_ref=org)
    return view.available_micro, view.held_micro


def test_an_hour_and_a_bit_from_hold_to_release(at):
    org, provider = open_org(), new_id()
    credit(org, 20 * USD)
    rental = rent(org, provider_ref=provider)
    assert purse(org) == (16 * USD, 4 * USD)

    start(rental, DAY + timedelta(minutes=50))
    meter = RentalMeter.objects.get(pk=rental)
    assert meter.paid_until == DAY + timedelta(minutes=110)

    at(DAY + timedelta(hours=1, seconds=10))
    assert use(window(rental, DAY + timedelta(minutes=50), 600)) == 1
    charge = 4 * USD * 600 // 3600
    assert purse(org) == (20 * USD - charge - 5 * USD, 5 * USD)  # 75 minutes held again
    meter.refresh_from_db()
    assert meter.paid_until == DAY + timedelta(hours=2, minutes=15)

    stop(rental)
    at(DAY + timedelta(hours=1, minutes=30))
    use(window(rental, DAY + timedelta(hours=1), 61))
    end(rental)
    total = 4 * USD * 661 // 3600
    assert purse(org) == (20 * USD - total, 0)
    share = 3_400_000 * 661 // 3600
    assert facade.earnings(provider_ref=provider).pending_micro == share
    lines = facade.charges(rental_ref=rental)
    assert [line.seq for line in lines] == [1, 2]
    assert sum(line.amount_micro for line in lines) == total
    assert all(line.amount_micro == line.provider_micro + line.fee_micro for line in lines)
    assert facade.spent(rental_refs=[rental]) == {rental: total}
    assert facade.books().balanced


def test_the_statement_adds_up_to_what_the_tenant_has(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=3))
    use(*(window(rental, DAY + timedelta(hours=hour), 3600) for hour in range(3)))
    first = facade.transactions(org_ref=org, limit=2)
    rest = facade.transactions(org_ref=org, limit=10, after=first[-1].id)
    rows = first + rest
    assert [row.kind for row in rows] == ["usage"] * 3 + ["topup"]
    view = facade.balance(org_ref=org)
    assert sum(row.amount_micro for row in rows) == view.available_micro + view.held_micro
    assert "fra-1" in rows[0].text


def test_windows_sent_again_or_overlapping_cost_nothing_twice(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=1))
    assert use(window(rental, DAY, 100)) == 1
    before = purse(org)
    assert use(window(rental, DAY, 100)) == 0
    assert purse(org) == before
    assert use(window(rental, DAY + timedelta(seconds=50), 100), window(rental, DAY, 30)) == 1
    assert [line.seconds for line in facade.charges(rental_ref=rental)] == [100, 50]


def test_seconds_proven_late_are_charged_late(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    at(DAY + timedelta(hours=1))
    use(window(rental, DAY, 100))
    use(window(rental, DAY + timedelta(seconds=300), 100))
    assert use(window(rental, DAY, 500)) == 2
    assert [line.seconds for line in facade.charges(rental_ref=rental)] == [100, 100, 200, 100]
    assert facade.spent(rental_refs=[rental]) == {rental: 4 * USD * 500 // 3600}


@pytest.mark.parametrize(
    ("shift", "seconds", "message"),
    [
        (timedelta(microseconds=5), 10, "whole seconds"),
        (timedelta(0), 0, "ends before it starts"),
        (timedelta(minutes=59), 120, "leaves its UTC hour"),
        (timedelta(hours=5), 60, "in the future"),
    ],
)
def test_a_window_that_breaks_the_contract_stores_nothing(at, shift, seconds, message):
    org = open_org()
    credit(org, 20 * USD)
    rental, other = rent(org), rent(org)
    at(DAY + timedelta(hours=2))
    with pytest.raises(ValueError, match=message):
        use(window(other, DAY, 60), window(rental, DAY + shift, seconds))
    assert not UsageLine.objects.exists()


def test_usage_of_unknown_and_ended_rentals_is_refused_but_repetition_is_not(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    at(DAY + timedelta(hours=2))
    with pytest.raises(ValueError, match="hold nothing"):
        use(window(new_id(), DAY, 60))
    use(window(rental, DAY, 60))
    end(rental)
    end(rental)
    assert use(window(rental, DAY, 60)) == 0
    with pytest.raises(ValueError, match="returned already"):
        use(window(rental, DAY, 61))


def test_no_hold_past_the_floor_and_nothing_stored(at):
    org = open_org()
    credit(org, 5 * USD)
    rental = rent(org)
    with pytest.raises(Refusal) as caught:
        rent(org)
    assert caught.value.slug == "insufficient_funds"
    assert caught.value.extra["needed"] == "4.0000"
    assert caught.value.extra["available"] == "1.0000"
    assert caught.value.extra["topup_url"].startswith("http")
    assert list(RentalMeter.objects.values_list("rental_ref", flat=True)) == [rental]


def test_a_hold_asked_twice_is_held_once(at):
    org, rental = open_org(), new_id()
    credit(org, 20 * USD)
    for _ in range(2):
        with transaction.atomic():
            view = facade.hold(org_ref=org, rental_ref=rental, terms=terms())
    assert view.held_micro == 4 * USD
    assert purse(org) == (16 * USD, 4 * USD)


def test_past_hold_and_floor_the_platform_pays(at):
    org, provider = open_org(), new_id()
    credit(org, 5 * USD)
    rental = rent(org, provider_ref=provider)
    start(rental, DAY)
    at(DAY + timedelta(hours=2))
    use(window(rental, DAY, 3600), window(rental, DAY + timedelta(hours=1), 3600))
    assert purse(org) == (0, 0)
    lines = facade.charges(rental_ref=rental)
    assert sum(line.amount_micro for line in lines) == 8 * USD
    assert facade.spent(rental_refs=[rental]) == {rental: 5 * USD}
    assert facade.earnings(provider_ref=provider).pending_micro == 6_800_000
    assert facade.books().balanced
    stop(rental)
    end(rental)
    assert facade.books().balanced


def test_a_credit_limit_is_spent_to_its_end_and_no_further(at):
    org = open_org()
    limit(org, 6 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=1))
    use(window(rental, DAY, 3600))
    assert purse(org) == (-6 * USD, 2 * USD)  # 75 minutes would be 5, two are left
    with pytest.raises(Refusal):
        limit(org, 5 * USD)
    assert facade.balance(org_ref=org).spendable_micro == 0


def test_the_sweep_reports_what_nobody_pays_and_mends_what_somebody_can(at):
    poor, rich = open_org(), open_org()
    credit(poor, 4 * USD)
    credit(rich, 40 * USD)
    unpaid, late = rent(poor), rent(rich)
    start(unpaid, DAY)
    start(late, DAY)
    at(DAY + timedelta(minutes=59))
    assert facade.exhausted(limit=10) == []
    at(DAY + timedelta(minutes=60))
    assert facade.exhausted(limit=10) == [unpaid]
    # The tick of the rich one is late: its hold now covers the open hour and 75 minutes more.
    meter = RentalMeter.objects.get(pk=late)
    assert meter.paid_until is not None
    assert meter.paid_until >= DAY + timedelta(minutes=135)
    credit(poor, 10 * USD)
    assert facade.exhausted(limit=10) == []
    stop(unpaid)
    at(DAY + timedelta(hours=10))
    assert facade.exhausted(limit=10) == [late]  # ten open hours used up all forty
    assert facade.books().balanced


def test_free_rentals_run_out_of_nothing(at):
    org = open_org()
    rental = rent(org, price_micro_h=0, provider_micro_h=0)
    start(rental, DAY)
    at(DAY + timedelta(hours=5))
    assert facade.exhausted(limit=10) == []
    use(window(rental, DAY, 3600))
    assert facade.spent(rental_refs=[rental]) == {rental: 0}
    end(rental)
    assert facade.books().balanced


def test_thousands_of_windows_take_a_fixed_number_of_statements(at, django_assert_max_num_queries):
    org = open_org()
    credit(org, 9_000 * USD)
    rentals = [rent(org, price_micro_h=USD // 10, provider_micro_h=1000) for _ in range(200)]
    at(DAY + timedelta(hours=5))
    windows = [window(r, DAY + timedelta(hours=h), 3600) for r in rentals for h in range(5)]
    with django_assert_max_num_queries(10):
        assert facade.post_usage(windows=columns(windows)) == 1000
    assert facade.books().balanced


def test_forecast_counts_the_seconds_that_are_not_settled_yet(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(minutes=30))
    view = facade.balance(org_ref=org)
    assert view.burn_micro_h == 4 * USD
    assert view.funds_end_at == DAY + timedelta(hours=5)


def test_charges_of_several_rentals_by_time(at):
    org = open_org()
    credit(org, 50 * USD)
    first, second = rent(org), rent(org)
    at(DAY + timedelta(hours=3))
    for rental in (first, second):
        use(*(window(rental, DAY + timedelta(hours=hour), 3600) for hour in range(3)))
    both = [first, second]
    newest = facade.charges_of(rental_refs=both, limit=2)
    assert [line.from_at for line in newest] == [DAY + timedelta(hours=2)] * 2
    middle = facade.charges_of(
        rental_refs=both, from_at=DAY + timedelta(hours=1), to_at=DAY + timedelta(hours=2)
    )
    assert {line.rental_ref for line in middle} == set(both)
    assert [line.from_at for line in middle] == [DAY + timedelta(hours=1)] * 2
    assert facade.charge(charge_id=middle[0].id) == middle[0]
