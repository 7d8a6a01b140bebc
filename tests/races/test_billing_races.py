"""Many at once on one tenant, one rental, one payment: each second and each cent once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, transaction

from billing import facade
from billing.contracts import PaymentState
from billing.metering.mirror import collect
from billing.models import (
    CallKind,
    Invoice,
    MeterBatch,
    Payment,
    RentalMeter,
    StripeCall,
    TopUp,
    Transaction,
    UsageLine,
)
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from billing.payments.intents import intend
from billing.stripe_gateway import execute
from kernel.clock import hour_of, now
from kernel.errors import Refusal
from tests.area.billing.conftest import (
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
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    save_card,
    stripe_account,
    stripe_simulator,
    topup,
)
from tests.columns import columns

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """Run ``work(0..count-1)`` in threads that start together; what each returned or raised."""
    gate = Barrier(count)

    def one(number: int) -> object:
        try:
            connection.ensure_connection()
            gate.wait(30)
            return work(number)
        except Exception as error:  # noqa: BLE001  (the outcome is what the test looks at)
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_sixty_four_holds_on_money_for_ten():
    org = open_org()
    credit(org, 43 * USD)

    def hold(_: int) -> str:
        try:
            rent(org)
        except Refusal as refusal:
            return refusal.slug
        return "held"

    outcomes = Counter(map(str, at_once(64, hold)))
    assert outcomes == {"held": 10, "insufficient_funds": 54}
    view = facade.balance(org_ref=org)
    assert (view.available_micro, view.held_micro) == (3 * USD, 40 * USD)
    assert RentalMeter.objects.count() == 10
    assert facade.books().balanced


def test_holds_and_ticks_with_tax_of_one_poor_tenant_never_pass_its_floor(settings):
    """Eight rentals whose last hour ran out together, charged late by six workers while others ask
    for holds: what there is is taken to the micro-unit, with the tax on exactly what was paid."""
    settings.GPUYARD_TAX_POINT = "use"
    ppm, count, hours = 190_000, 8, 3
    org = open_org()
    taxed(org, ppm)
    credit(org, count * 5 * USD)  # an hour of each with its tax, and a little
    begin = hour_of(now()) - timedelta(hours=hours)
    rentals = [rent(org) for _ in range(count)]
    for rental in rentals:
        start(rental, begin)
    windows = [window(r, begin + timedelta(hours=h), 3600) for h in range(hours) for r in rentals]

    def work(number: int) -> str:
        if number % 4 == 3:
            with suppress(Refusal):
                rent(org, price_micro_h=USD // 7)
            return "done"
        mine = windows[number * 5 :] + windows[: number * 5]
        for first in range(0, len(mine), 6):
            use(*mine[first : first + 8])
        return "done"

    assert Counter(map(repr, at_once(8, work))) == {"'done'": 8}
    view = facade.balance(org_ref=org)
    assert view.available_micro >= 0
    meters = RentalMeter.objects.filter(rental_ref__in=rentals)
    paid = sum(one.charged_micro - one.overrun_micro for one in meters)
    assert all(one.charged_micro == hours * 4 * USD for one in meters)
    assert owed_tax() == sum(
        (one.charged_micro - one.overrun_micro) * ppm // 10**6 for one in meters
    )
    assert view.available_micro + view.held_micro == count * 5 * USD - paid - owed_tax()
    assert facade.books().balanced


def test_three_workers_charge_the_same_windows_and_two_of_them_crash():
    hours = 3
    begin = hour_of(now()) - timedelta(hours=hours)
    orgs = [open_org() for _ in range(4)]
    for org in orgs:
        credit(org, 1000 * USD)
    rentals = [rent(org) for org in orgs for _ in range(5)]
    for rental in rentals:
        start(rental, begin)
    windows = [window(r, begin + timedelta(hours=h), 3600) for h in range(hours) for r in rentals]

    def worker(number: int) -> str:
        # Everybody takes the windows in an order of his own, in batches that overlap.
        mine = windows[number * 21 :] + windows[: number * 21]
        for first in range(0, len(mine), 10):
            with transaction.atomic():
                facade.post_usage(windows=columns(mine[first : first + 15]))
                if number and first == 20:
                    raise RuntimeError("killed before the commit")
        return "done"

    outcomes = Counter(type(one).__name__ for one in at_once(3, worker))
    assert outcomes["str"] == 1
    assert outcomes["RuntimeError"] == 2
    use(*windows)
    for rental in rentals:
        lines = facade.charges(rental_ref=rental)
        assert sum(line.seconds for line in lines) == hours * 3600
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        meter = RentalMeter.objects.get(pk=rental)
        assert meter.charged_micro == 4 * USD * meter.billable_seconds // 3600
        assert meter.charged_micro == sum(line.amount_micro for line in lines)
    assert UsageLine.objects.count() == Transaction.objects.filter(kind="usage").count()
    assert facade.books().balanced


def test_holds_usage_topups_and_ends_of_one_tenant_never_deadlock():
    org = open_org()
    credit(org, 2000 * USD)
    begin = hour_of(now()) - timedelta(hours=1)
    rentals = [rent(org) for _ in range(12)]
    for rental in rentals:
        start(rental, begin)

    def work(number: int) -> str:
        rental = rentals[number % 12]
        if number % 4 == 0:
            use(*(window(r, begin, 60 * (number + 1)) for r in rentals))
        elif number % 4 == 1:
            rent(org)
        elif number % 4 == 2:
            credit(org, 5 * USD)
        else:
            facade.exhausted(limit=20)
            with transaction.atomic():
                facade.meter_stopped(rental_ref=rental)
        return "done"

    assert Counter(map(repr, at_once(24, work))) == {"'done'": 24}
    assert facade.books().balanced


def test_one_payment_told_sixty_four_times_at_once():
    org = open_org()
    row = TopUp.objects.create(
        customer_id=org, amount_micro=30 * USD, currency="USD", return_url="https://example.com/"
    )
    fact = PaymentFact("pi_1", PaymentState.SUCCEEDED, 3000, "USD", 117, None)
    outcomes = at_once(64, lambda _: topup_payment(row.id, fact))
    assert outcomes == [True] * 64
    assert facade.balance(org_ref=org).available_micro == 30 * USD
    assert Payment.objects.count() == 1
    assert Transaction.objects.count() == 2  # the money and Stripe's fee
    assert facade.books().balanced


def test_one_topup_intended_and_executed_by_many_is_one_charge(stripe, monkeypatch):
    from contextlib import nullcontext

    org = open_org()
    card = save_card(stripe, org)
    wish = topup(org, 30 * USD, card)
    at_once(
        64,
        lambda _: intend(CallKind.TOPUP_CHARGE, key=f"topup:{wish}", subject=wish, org_ref=org),
    )
    # Without the lane, so that many really compete for the rows.
    monkeypatch.setattr(execute, "lane", lambda name: nullcontext(True))
    at_once(8, lambda _: execute.drain())
    assert StripeCall.objects.filter(kind="topup_charge").count() == 1
    (intent,) = stripe.objects("payment_intent")
    assert intent["status"] == "succeeded"
    assert facade.balance(org_ref=org).available_micro == 30 * USD


def test_two_people_close_one_period_at_once():
    org = open_org()
    limit(org, 100 * USD)
    rental = rent(org)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))

    def close(_: int) -> str:
        try:
            with transaction.atomic():
                facade.close_period(org_ref=org, actor="staff@example.com")
        except Refusal as refusal:
            return refusal.slug
        return "closed"

    outcomes = Counter(map(str, at_once(8, close)))
    assert outcomes == {"closed": 1, "invalid_transition": 7}
    assert Invoice.objects.get().total_minor == 400


def test_many_mirrors_at_once_cover_each_line_once():
    org = open_org()
    credit(org, 500 * USD)
    begin = hour_of(now()) - timedelta(hours=1)
    for _ in range(20):
        use(window(rent(org), begin, 60))
    outcomes = at_once(6, lambda _: collect())
    assert all(isinstance(one, int) for one in outcomes), outcomes
    collect()
    assert sum(MeterBatch.objects.values_list("gpu_seconds", flat=True)) == 20 * 2 * 60
