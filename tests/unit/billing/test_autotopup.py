"""The standing order's decision, and the bounds of payment attempts: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.contracts import PaymentState
from billing.contracts.autotopup import AutoTopUpWish
from billing.payments.attempts import CARD, Cap, wait_for
from billing.rating.autotopup import NEEDS_OWNER, Decision, Try, charged, decide, failures
from kernel.ids import new_id

USD = 1_000_000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WISH = AutoTopUpWish(True, 10 * USD, 50 * USD, 120 * USD, None)


def tried(minutes_ago: int, state: str = "succeeded", amount: int = 40 * USD, **more) -> Try:
    at = NOON - timedelta(minutes=minutes_ago)
    return Try(new_id(), at, amount, PaymentState(state), more.pop("auto", True), **more)


def decided(*tries: Try, spendable: int = 9 * USD, burn: int = 0, wish=WISH) -> Decision:
    return decide(
        wish,
        set_at=NOON - timedelta(days=30),
        tries=tries,
        spendable_micro=spendable,
        burn_micro_h=burn,
        smallest_micro=5 * USD,
        largest_micro=10_000 * USD,
        at=NOON,
    )


def test_it_charges_up_to_the_target_below_the_threshold_and_not_at_it():
    assert decided(spendable=9 * USD) == Decision("charge", 41 * USD)
    assert decided(spendable=10 * USD).do == "nothing"
    # A part of a cent is rounded up: whole cents are charged.
    assert decided(spendable=9_999_999) == Decision("charge", 40_010_000)


def test_it_charges_before_the_next_hours_take_the_balance_below_the_threshold():
    assert decided(spendable=30 * USD, burn=10 * USD).do == "nothing"
    assert decided(spendable=29 * USD, burn=10 * USD) == Decision("charge", 21 * USD)


@pytest.mark.parametrize("state", ["pending", "open"])
def test_an_open_charge_holds_up_the_next_however_old_it_is(state):
    assert decided(tried(60 * 24 * 9, state)).do == "wait"


def test_one_charge_an_hour():
    assert decided(tried(59)).do == "wait"
    assert decided(tried(60)).do == "charge"
    assert decided(tried(59, "failed")).do == "wait"


def test_the_daily_ceiling_counts_what_may_still_arrive_and_not_what_failed():
    one, two = tried(70, amount=80 * USD), tried(140, "failed", 500 * USD)
    assert charged([one, two], NOON) == 80 * USD
    assert decided(one, two) == Decision("charge", 40 * USD)
    assert decided(tried(70, amount=116 * USD)).do == "nothing"  # 4 USD are no top-up
    assert decided(tried(24 * 60, amount=120 * USD)).do == "charge"


def test_three_failures_in_a_row_switch_it_off_and_a_success_forgets_them():
    failed = [tried(70 * n, "failed") for n in (1, 2, 3)]
    assert decided(*failed).do == "stop"
    assert decided(*failed[:2]).do == "charge"
    paid = tried(80, auto=False)
    assert failures([failed[0], paid, *failed[1:]], NOON - timedelta(days=1)) == 1
    assert failures(failed, set_at=NOON - timedelta(minutes=100)) == 1


def test_a_card_that_wants_its_owner_is_not_charged_again_until_its_owner_came():
    asked = tried(600, "failed", code=NEEDS_OWNER)
    assert decided(asked) == Decision("ask", asked.amount_micro, asked.id)
    assert decided(tried(10, auto=False), asked).do == "charge"


def test_attempts_wait_until_the_one_that_fills_the_cap_is_old_enough():
    caps = (Cap(timedelta(hours=1), 3), Cap(timedelta(hours=1), 2, failed=True))
    tries = [(NOON - timedelta(minutes=m), failed) for m, failed in ((1, False), (5, True))]
    assert wait_for(caps, tries, at=NOON) == timedelta()
    third = (NOON - timedelta(minutes=20), False)
    assert wait_for(caps, [*tries, third], at=NOON) == timedelta(minutes=40)
    refused = (NOON - timedelta(minutes=10), True)
    assert wait_for(caps, [*tries, refused, third], at=NOON) == timedelta(minutes=50)
    assert wait_for(CARD, [(NOON, True)] * 4, at=NOON) == timedelta(days=1)
