"""A payout fails in every way at every step, and nobody is paid twice."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import transaction

from billing.contracts.payouts import LineState
from billing.facade import payouts
from billing.models import AccountKind, PayoutLine, PayoutRun, StripeCall, Transaction
from billing.payouts import converge
from billing.payouts import run as runs
from billing.stripe_gateway import execute
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import new_id
from tests.area.billing.earners import balance, due, right
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    failing,
    receive,
    send,
    stripe_account,
    stripe_simulator,
)
from tests.contract.test_billing_stripe_payouts import earned, fund, run, sign_up
from tests.faults.test_billing_stripe_faults import settle, worker
from tests.races.test_billing_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
USD = 1_000_000


@pytest.fixture
def provider(stripe, settings):
    """Somebody to whom a hundred dollars are due, with cash for five of them."""
    one = new_id()
    sign_up(stripe, one)
    fund(stripe, 500)
    earned(settings, one)
    return one


def paid_once(stripe, provider) -> None:
    """One transfer at Stripe, one line sent, each leg booked once, and the cash agrees."""
    receive()
    assert len(stripe.objects("transfer")) == 1
    assert PayoutLine.objects.get().state == LineState.SENT
    assert (due(provider), balance(AccountKind.PROVIDER_CLEARING)) == (0, 0)
    for kind in ("payout", "payout_sent"):
        assert Transaction.objects.filter(kind=kind).count() == 1
    assert -balance(AccountKind.STRIPE_CASH) == stripe.state()["balance"]["available"] * 10_000
    right()


@pytest.mark.parametrize("fault", ["rate_limit", "error_after", "cut_after"])
def test_a_transfer_that_fails_is_made_once(stripe, provider, fault):
    run()
    with failing(stripe, fault, "/v1/transfers"):
        send()
    settle()
    paid_once(stripe, provider)


def test_a_transfer_found_again_after_a_day_is_adopted(stripe, provider):
    line = run()
    with failing(stripe, "cut_after", "/v1/transfers"):
        send()
    StripeCall.objects.filter(kind="transfer").update(
        first_sent_at=now() - timedelta(hours=23, minutes=30)
    )
    settle()
    paid_once(stripe, provider)
    keys = [row["idempotency_key"] or "" for row in stripe.requests()]
    assert [key for key in keys if str(line.id) in key] == [f"payout:{line.id}:1"]


@pytest.mark.parametrize("moment", ["hold_before", "hold_after"])
def test_a_run_killed_while_stripe_pays_pays_nobody_twice(stripe, provider, moment):
    run()
    fault = stripe.fail(moment, method="POST", path="/v1/transfers")
    process = worker()
    try:
        deadline = time.monotonic() + 60
        while not any(one["id"] == fault and one["hits"] for one in stripe.faults()):
            assert process.poll() is None, "the worker ended before it paid"
            assert time.monotonic() < deadline, "the worker never asked Stripe"
        process.kill()
    finally:
        process.kill()
        process.wait(30)
    stripe.release()
    stripe.clear()
    settle()
    paid_once(stripe, provider)


class Killed(BaseException):
    """As abrupt as kill -9: nothing catches it."""


# Where a worker dies: (module, step, whether the step is still done).
DEATHS = [
    (runs, "intend", True),  # decided and booked, not committed
    (execute, "_mark_sent", True),  # committed, Stripe not asked
    (execute, "_finish", False),  # Stripe paid, nothing written
    (converge, "_sent", False),
    (converge, "post", True),  # booked, not committed
]


@pytest.mark.parametrize(("room", "step", "done"), DEATHS, ids=[step for _, step, _ in DEATHS])
def test_a_run_killed_between_any_two_steps_pays_nobody_twice(
    stripe, provider, monkeypatch, room, step, done
):
    real = getattr(room, step)

    def die(*given, **named):
        if done:
            real(*given, **named)
        raise Killed

    def live_and_die() -> None:
        run()
        send()

    with monkeypatch.context() as patch:
        patch.setattr(room, step, die)
        with pytest.raises(Killed):
            live_and_die()
    try:
        run()
    except Refusal:  # the first one was committed: there is nothing left to pay
        assert PayoutRun.objects.count() == 1
    settle()
    paid_once(stripe, provider)


def test_four_at_once_make_one_run_and_four_workers_one_transfer(stripe, provider):
    def make(number: int) -> object:
        with transaction.atomic():
            return payouts.make_run(actor=f"staff:usr_{number}", sole=False)

    outcomes = at_once(4, make)
    assert sum(isinstance(one, Refusal) for one in outcomes) == 3
    at_once(4, lambda _: execute.drain())
    settle()
    paid_once(stripe, provider)
