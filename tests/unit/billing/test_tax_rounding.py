"""Tax on use, without a database: cumulative, covered by the hold, given back exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing.rating.funds import paid_until
from billing.rating.rounding import charged, hold_for
from billing.rating.tax import net_paid_by, returned, tax_on, with_tax

PPM = st.integers(0, 1_000_000)
MONEY = st.integers(0, 10**12)
RATE = st.integers(1, 10**9)


@given(st.lists(st.integers(0, 10**9), max_size=40), PPM)
def test_parts_add_up_to_the_tax_of_the_whole(parts: list[int], ppm: int) -> None:
    taken = upto = 0
    for part in parts:
        taken += tax_on(upto + part, ppm) - tax_on(upto, ppm)
        upto += part
    assert taken == upto * ppm // 1_000_000


@given(MONEY, MONEY, PPM)
def test_a_hold_covers_the_tax_whatever_was_charged_before(before: int, net: int, ppm: int) -> None:
    tax = tax_on(before + net, ppm) - tax_on(before, ppm)
    assert net + tax <= with_tax(net, ppm) <= net + tax + 1


@given(MONEY, PPM)
def test_what_a_hold_pays_is_the_most_that_certainly_fits(held: int, ppm: int) -> None:
    net = net_paid_by(held, ppm)
    assert with_tax(net, ppm) <= held < with_tax(net + 1, ppm)


@given(RATE, st.integers(1, 100_000), st.integers(0, 10**6), PPM)
def test_the_paid_time_is_paid_to_its_last_second(
    rate: int, seconds: int, before: int, ppm: int
) -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    held = with_tax(hold_for(rate, seconds), ppm)
    end = paid_until(
        rate_micro_h=rate, held=held, running_since=begin, charged_until=None, tax_ppm=ppm
    )
    assert end is not None
    assert end >= begin + timedelta(seconds=seconds)
    lasts = int((end - begin).total_seconds())
    net = charged(rate, before + lasts) - charged(rate, before)
    so_far = charged(rate, before)
    assert net + tax_on(so_far + net, ppm) - tax_on(so_far, ppm) <= held


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=30), PPM)
def test_all_given_back_is_all_the_tax_and_never_more(credits: list[int], ppm: int) -> None:
    paid, given_back, before = sum(credits), 0, 0
    for credit in credits:
        given_back += credit
        tax = returned(given_back, paid, ppm)
        assert before <= tax <= tax_on(paid, ppm)
        before = tax
    assert before == tax_on(paid, ppm) == returned(paid * 2, paid, ppm)
