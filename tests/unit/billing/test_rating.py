"""Rating is a function of seconds alone: how often it is ticked changes no micro-unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.contracts import UsageWindow
from billing.rating.funds import FIRST_HOLD, missing, paid_until, pay
from billing.rating.rate import Tally, check, rate
from billing.rating.rounding import (
    charged,
    hold_for,
    hours_text,
    seconds_covered,
    split_minor,
)

DAY = datetime(2026, 3, 28, tzinfo=UTC)  # with the night on which Europe changes its clocks
RENTAL, SOURCE = UUID(int=1), UUID(int=2)
prices = st.integers(0, 10**9)
cuts = st.sets(st.integers(1, 2 * 86_400 - 1), max_size=40)


def windows(marks: list[int]) -> list[UsageWindow]:
    """Adjoining windows between the marks (seconds from DAY), cut at every UTC hour as well."""
    edges = sorted({*marks, *(h for h in range(0, 2 * 86_400 + 1, 3600) if h < marks[-1])})
    edges = [edge for edge in edges if marks[0] <= edge <= marks[-1]]
    return [
        UsageWindow(RENTAL, SOURCE, DAY + timedelta(seconds=a), DAY + timedelta(seconds=b))
        for a, b in pairwise(edges)
    ]


@given(price=prices, share=st.integers(0, 10_000), marks=cuts, other=cuts)
def test_the_total_does_not_depend_on_the_ticks(price, share, marks, other):
    provider = price * share // 10_000
    ends = {0, 2 * 86_400}
    totals = set()
    none: set[int] = set()
    for cut in (marks, other, none):
        rated, tally = rate(Tally(price, provider), windows(sorted(ends | cut)))
        assert tally.billable_seconds == 2 * 86_400
        # Each is the step of a floor of its own, so one may step a micro-unit before the other.
        assert all(0 <= one.provider_micro <= one.amount_micro + 1 for one in rated)
        assert all(one.provider_micro + one.fee_micro == one.amount_micro for one in rated)
        totals.add(
            (sum(one.amount_micro for one in rated), sum(one.provider_micro for one in rated))
        )
    assert totals == {(charged(price, 2 * 86_400), charged(provider, 2 * 86_400))}


@given(price=prices, stop=st.integers(1, 600))
def test_each_second_alone_costs_what_all_cost_together(price, stop):
    tally, total = Tally(price, 0), 0
    for one in windows(list(range(stop + 1))):
        rated, tally = rate(tally, [one])
        total += sum(line.amount_micro for line in rated)
    assert total == price * stop // 3600


@given(marks=cuts, again=cuts, data=st.data())
def test_windows_sent_again_in_any_order_are_charged_once(marks, again, data):
    sent = windows([0, *sorted(marks), 2 * 86_400])
    rated, tally = rate(Tally(10**6, 0), sent)
    more = data.draw(st.permutations(windows([0, *sorted(again), 2 * 86_400])))
    assert rate(tally, more, [(one.from_at, one.to_at) for one in rated]) == ([], tally)


@given(marks=cuts, other=cuts, data=st.data())
def test_windows_that_come_late_and_overlap_fill_the_holes_and_no_more(marks, other, data):
    everything = windows([0, *sorted(marks), 2 * 86_400]) + windows([0, *sorted(other), 2 * 86_400])
    order = data.draw(st.permutations(everything))
    tally = Tally(10**6, 10**5)
    covered: list[tuple[datetime, datetime]] = []
    for one in order:
        rated, tally = rate(tally, [one], covered)
        covered += [(line.from_at, line.to_at) for line in rated]
    covered.sort()
    assert all(before[1] <= after[0] for before, after in pairwise(covered))
    assert tally.billable_seconds == 2 * 86_400
    assert tally.charged_until == DAY + timedelta(days=2)


@given(first=st.integers(1, 3599), begin=st.integers(0, 3598), length=st.integers(1, 3600))
def test_an_overlapping_window_is_cut_to_what_is_new(first, begin, length):
    end = min(begin + length, 3600)
    charged_, tally = rate(Tally(10**6, 0), windows([0, first]))
    covered = [(one.from_at, one.to_at) for one in charged_]
    rated, _ = rate(tally, windows([begin, end]), covered)
    assert sum(one.seconds for one in rated) == max(0, end - max(begin, first))


def test_gaps_are_not_charged():
    rated, tally = rate(Tally(3600, 0), [*windows([0, 10]), *windows([20, 30])])
    assert [one.seconds for one in rated] == [10, 10]
    assert tally.billable_seconds == 20


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (DAY, DAY),
        (DAY + timedelta(seconds=1), DAY),
        (DAY + timedelta(milliseconds=1), DAY + timedelta(seconds=5)),
        (DAY + timedelta(minutes=59), DAY + timedelta(minutes=60, seconds=1)),
        (DAY.replace(tzinfo=None), DAY.replace(tzinfo=None) + timedelta(seconds=1)),
    ],
)
def test_windows_that_break_the_contract_are_named(begin, end):
    with pytest.raises(ValueError, match="usage window"):
        check(UsageWindow(RENTAL, SOURCE, begin, end))


@given(
    amount=st.integers(0, 10**12), held=st.integers(0, 10**12), available=st.integers(-5, 10**12)
)
def test_every_charge_is_paid_in_full_and_nobody_beyond_what_he_has(amount, held, available):
    paid = pay(amount, held=held, available=available)
    assert paid.from_hold + paid.from_tenant + paid.overrun == amount
    assert 0 <= paid.from_hold <= held
    assert 0 <= paid.from_tenant <= max(available, 0)
    assert paid.overrun == 0 or (paid.from_hold == held and paid.from_tenant == max(available, 0))


@given(price=prices, before=st.integers(0, 10**7), seconds=st.integers(0, 10**5))
def test_a_hold_pays_its_seconds_whatever_was_charged_before(price, before, seconds):
    cost = charged(price, before + seconds) - charged(price, before)
    assert cost <= hold_for(price, seconds)
    if price:
        assert seconds_covered(hold_for(price, seconds), price) >= seconds


@given(price=st.integers(1, 10**9), held=st.integers(0, 10**10), before=st.integers(0, 10**7))
def test_until_paid_until_the_hold_is_enough(price, held, before):
    covered = seconds_covered(held, price)
    assert charged(price, before + covered) - charged(price, before) <= held


def test_paid_until_counts_from_what_is_not_charged_yet():
    facts = {"rate_micro_h": 3600, "held": 3600}
    assert paid_until(**facts, running_since=None, charged_until=DAY) is None
    since = DAY + timedelta(minutes=10)
    assert paid_until(**facts, running_since=since, charged_until=None) == since + timedelta(
        hours=1
    )
    later = since + timedelta(minutes=50)
    assert paid_until(**facts, running_since=since, charged_until=later) == later + timedelta(
        hours=1
    )
    assert paid_until(**facts, running_since=later, charged_until=since) == later + timedelta(
        hours=1
    )
    assert missing(3600, held=100, seconds=FIRST_HOLD) == 3500


@given(carried=st.integers(0, 9_999), amounts=st.lists(st.integers(0, 10**12), max_size=30))
def test_invoice_lines_add_up_to_the_whole_cents_of_the_sum(carried, amounts):
    cents = split_minor(carried, amounts, 10_000)
    assert sum(cents) == (carried + sum(amounts)) // 10_000
    assert all(
        abs(minor * 10_000 - exact) < 10_000 for minor, exact in zip(cents, amounts, strict=True)
    )


@given(seconds=st.integers(0, 10**9))
def test_hours_are_exact_to_the_second(seconds):
    from decimal import Decimal

    assert round(Decimal(hours_text(seconds)) * 3600) == seconds
