"""How the spend limit grows: with what was paid, after it stayed paid. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from marketplace.accounts.spend_limit import STEPS, SpendLimit, limit_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND, THIRD, FOURTH = STEPS


def test_nothing_paid_is_the_first_step_and_only_a_payment_raises_it():
    assert limit_at({}, NOON) == SpendLimit(FIRST.per_hour_micro, None)


def test_a_fresh_payment_says_when_it_counts_and_counts_then():
    since = {SECOND.settled_micro: NOON}
    due = NOON + SECOND.wait
    assert limit_at(since, NOON) == SpendLimit(FIRST.per_hour_micro, due)
    assert limit_at(since, due - timedelta(seconds=1)).per_hour_micro == FIRST.per_hour_micro
    assert limit_at(since, due) == SpendLimit(SECOND.per_hour_micro, None)


def test_much_at_once_still_rises_step_by_step():
    since = {step.settled_micro: NOON for step in STEPS[1:]}
    assert limit_at(since, NOON + SECOND.wait) == SpendLimit(
        SECOND.per_hour_micro, NOON + THIRD.wait
    )
    assert limit_at(since, NOON + FOURTH.wait) == SpendLimit(FOURTH.per_hour_micro, None)


def test_each_step_asks_for_more_money_and_more_time_and_gives_more():
    for one, next_ in pairwise(STEPS):
        assert one.settled_micro < next_.settled_micro
        assert one.wait < next_.wait
        assert one.per_hour_micro < next_.per_hour_micro
