"""Holds pay their seconds, and roundings add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing.rating.funds import paid_until
from billing.rating.rounding import (
    charged,
    hold_for,
    hours_text,
    seconds_covered,
    split_minor,
)

DAY = datetime(2026, 3, 28, tzinfo=UTC)  # with the night on which Europe changes its clocks
prices = st.integers(0, 10**9)


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
