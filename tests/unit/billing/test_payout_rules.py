"""When and how much a provider is paid, by the numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.payouts import rules
from billing.payouts.rules import Matured

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
USD = 1_000_000


@pytest.mark.parametrize(
    ("matured_on", "asked_on", "kept"),
    [
        (10, 10, 10 * USD),
        (10, 39, 10 * USD),
        (10, 40, 0),  # thirty days are over
        (89, 100, 10 * USD),  # matured in the first ninety days: its thirty go on
        (90, 91, 0),  # the first ninety days are over
    ],
)
def test_a_tenth_waits_thirty_days_in_the_first_ninety(matured_on, asked_on, kept):
    rows = [Matured(START + matured_on * DAY, 100 * USD)]
    at = START + asked_on * DAY
    assert rules.reserve(rows, first_earned_at=START, at=at) == kept


def test_what_was_taken_back_is_reserved_for_no_more():
    rows = [Matured(START, 100 * USD), Matured(START + DAY, -30 * USD)]
    assert rules.reserve(rows, first_earned_at=START, at=START + DAY) == 7 * USD
    rows.append(Matured(START + DAY, -200 * USD))
    assert rules.reserve(rows, first_earned_at=START, at=START + DAY) == 0


@pytest.mark.parametrize(
    ("due", "reserve", "paid"),
    [
        (25 * USD, 0, 25 * USD),
        (25 * USD - 1, 0, 0),
        (25 * USD + 12_345, 0, 25 * USD + 10_000),  # parts of a cent stay due
        (30 * USD, 6 * USD, 0),
        (-50 * USD, 0, 0),  # a debt is carried over
    ],
)
def test_whole_cents_from_twenty_five_dollars_on(due, reserve, paid):
    assert rules.payable(due_micro=due, reserve_micro=reserve) == paid


@pytest.mark.parametrize(
    ("at", "week", "following"),
    [
        (datetime(2026, 3, 2, 5, 59, tzinfo=UTC), 2, 2),  # Monday, just before
        (datetime(2026, 3, 2, 6, 0, tzinfo=UTC), 2, 9),
        (datetime(2026, 3, 8, 23, 0, tzinfo=UTC), 2, 9),  # Sunday
    ],
)
def test_runs_are_on_mondays_at_six(at, week, following):
    assert rules.week_of(at) == datetime(2026, 3, week, 6, tzinfo=UTC)
    assert rules.next_run(at) == datetime(2026, 3, following, 6, tzinfo=UTC)


def test_two_people_above_the_limit_and_nobody_below():
    assert rules.approvals_needed(total_micro=100, limit_micro=100) == 0
    assert rules.approvals_needed(total_micro=101, limit_micro=100) == 2
