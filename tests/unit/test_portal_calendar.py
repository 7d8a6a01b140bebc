"""The month of a calendar: whole weeks, and each maintenance on the days that it takes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from kernel.errors import NotFound
from marketplace.http.portal.calendar import Month, month_named, month_of, span
from marketplace.models import Maintenance

TODAY = date(2026, 11, 28)


def row(start: str, end: str | None) -> Maintenance:
    """From and to, in UTC."""
    ends_at = datetime.fromisoformat(end).replace(tzinfo=UTC) if end else None
    starts_at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    return Maintenance(starts_at=starts_at, ends_at=ends_at)


def november(*rows: Maintenance) -> Month:
    return month_of(date(2026, 11, 1), TODAY, rows, lambda _row: "one")


def days_of(month: Month) -> list[date]:
    return [day.day for week in month.weeks for day in week if day.entries]


def test_a_month_is_whole_weeks_from_monday() -> None:
    month = november()
    assert month.weeks[0][0].day == date(2026, 10, 26)
    assert month.weeks[-1][-1].day == date(2026, 12, 6)
    assert {len(week) for week in month.weeks} == {7}
    assert [day.day for week in month.weeks for day in week if day.today] == [TODAY]
    assert (month.before, month.after, month.is_empty) == ("2026-10", "2026-12", True)
    start, end = span(date(2026, 11, 1))
    assert (start.date(), end.date()) == (date(2026, 10, 26), date(2026, 12, 7))


def test_the_years_ends_have_neighbours() -> None:
    assert month_of(date(2026, 12, 1), TODAY, (), str).after == "2027-01"
    assert month_of(date(2026, 1, 1), TODAY, (), str).before == "2025-12"


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2026-11-10T10:00", "2026-11-10T12:00", [10]),
        ("2026-11-10T23:00", "2026-11-11T01:00", [10, 11]),
        ("2026-11-10T10:00", "2026-11-11T00:00", [10]),
        ("2026-11-10T00:00", "2026-11-12T00:01", [10, 11, 12]),
    ],
)
def test_it_is_on_each_day_that_it_takes(start: str, end: str, days: list[int]) -> None:
    assert days_of(november(row(start, end))) == [date(2026, 11, day) for day in days]


def test_without_an_end_it_goes_on_to_the_last_day() -> None:
    found = days_of(november(row("2026-12-04T10:00", None)))
    assert found == [date(2026, 12, 4), date(2026, 12, 5), date(2026, 12, 6)]


def test_more_than_three_on_a_day_are_counted() -> None:
    month = november(*[row("2026-11-10T10:00", "2026-11-10T11:00")] * 5)
    (day,) = [day for week in month.weeks for day in week if day.entries]
    assert (len(day.entries), day.more) == (3, 2)
    assert (day.entries[0].begins, day.entries[0].ends) == (True, True)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "x", "1999-01", "2026-1", "²026-01"]
)
def test_what_names_no_month_is_no_page(text: str) -> None:
    with pytest.raises(NotFound):
        month_named(text, TODAY)


def test_the_present_month_unless_named() -> None:
    assert month_named(None, TODAY) == date(2026, 11, 1)
    assert month_named("2027-02", TODAY) == date(2027, 2, 1)
