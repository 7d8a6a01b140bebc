"""How long a pod may live without us. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.funds import Burning, lasts_until
from marketplace.rentals.lease import (
    FAILOVER,
    MARGIN,
    POST_PAID,
    PREPAID,
    lease_length,
    lease_until,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("post_paid", "failover", "length"),
    [
        (False, False, timedelta(hours=26)),
        (True, False, timedelta(hours=72)),
        (False, True, timedelta(minutes=10)),
        (True, True, timedelta(minutes=10)),
    ],
)
def test_lengths(post_paid, failover, length) -> None:
    assert lease_length(post_paid=post_paid, failover=failover) == length


@pytest.mark.parametrize(
    ("length", "expires", "funds", "until"),
    [
        (PREPAID, None, None, NOON + PREPAID),
        (POST_PAID, None, None, NOON + POST_PAID),
        (PREPAID, NOON + 5 * HOUR, None, NOON + 5 * HOUR + MARGIN),
        (PREPAID, None, NOON + 2 * HOUR, NOON + 2 * HOUR + MARGIN),
        (PREPAID, NOON + 5 * HOUR, NOON + 2 * HOUR, NOON + 2 * HOUR + MARGIN),
        (PREPAID, NOON + 2 * HOUR, NOON + 5 * HOUR, NOON + 2 * HOUR + MARGIN),
        (PREPAID, NOON + 99 * HOUR, NOON + 99 * HOUR, NOON + PREPAID),
        (FAILOVER, NOON + 5 * HOUR, NOON + 5 * HOUR, NOON + FAILOVER),
        (PREPAID, NOON - HOUR, None, NOON - HOUR + MARGIN),  # its end is long under way
    ],
)
def test_the_earliest_end_wins(length, expires, funds, until) -> None:
    found = lease_until(at=NOON, length=length, expires_at=expires, funds_end_at=funds)
    assert found == until


@given(
    st.sampled_from([PREPAID, POST_PAID, FAILOVER]),
    st.none() | st.timedeltas(-HOUR, 200 * HOUR),
    st.none() | st.timedeltas(-HOUR, 200 * HOUR),
)
def test_never_longer_than_its_length_nor_past_what_is_paid(length, expires, funds) -> None:
    dates = [None if gap is None else NOON + gap for gap in (expires, funds)]
    until = lease_until(at=NOON, length=length, expires_at=dates[0], funds_end_at=dates[1])
    assert until <= NOON + length
    assert all(until <= date + MARGIN for date in dates if date is not None)


def test_money_lasts_for_all_that_burn_together() -> None:
    running = Burning(1_000_000, 500_000, NOON - HOUR / 2, None)  # half an hour not charged yet
    coming = Burning(3_000_000, 3_000_000, None, None)
    # 8.00 of balance, 3.00 of hold that is not used up: 11.00 at 4.00 an hour.
    until = lasts_until([running, coming], spendable_micro=8_000_000, at=NOON)
    assert until == NOON + timedelta(hours=2, minutes=45)
    assert lasts_until([running, coming], spendable_micro=-4_000_000, at=NOON) == NOON
    assert lasts_until([], spendable_micro=1, at=NOON) is None
    assert lasts_until([Burning(0, 0, None, None)], spendable_micro=0, at=NOON) is None
