"""The balance ahead, against sums written out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from marketplace.rentals.ahead import Point, Running, ahead

AT = datetime(2026, 3, 1, tzinfo=UTC)
USD = 1_000_000


def hours(n: float) -> datetime:
    return AT + timedelta(hours=n)


def test_burn_falls_where_a_rental_ends() -> None:
    # 100 at 3 an hour for 10 hours, then at 1 for 20: 100 - 30 - 20.
    running = [Running(2 * USD, hours(10)), Running(USD, None)]
    found = ahead(100 * USD, running, at=AT, until=hours(30))
    assert found == [
        Point(AT, 100 * USD), Point(hours(10), 70 * USD), Point(hours(30), 50 * USD),
    ]  # fmt: skip


def test_it_ends_when_the_money_does() -> None:
    # 10 at 4 an hour: two hours and a half.
    found = ahead(10 * USD, [Running(4 * USD, None)], at=AT, until=hours(100))
    assert found[-1] == Point(hours(2.5), 0)


def test_nothing_running_keeps_it_and_no_money_is_no_line() -> None:
    assert ahead(USD, [], at=AT, until=hours(5)) == [Point(AT, USD), Point(hours(5), USD)]
    assert ahead(0, [Running(USD, None)], at=AT, until=hours(5)) == []
    assert ahead(USD, [], at=AT, until=AT) == []


def test_ends_beyond_what_is_shown_change_nothing_in_it() -> None:
    found = ahead(10 * USD, [Running(USD, hours(50))], at=AT, until=hours(5))
    assert found == [Point(AT, 10 * USD), Point(hours(5), 5 * USD)]
