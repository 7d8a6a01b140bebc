"""A month as a grid of weeks, with what takes cards down on each day. Days are in UTC."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from kernel.errors import NotFound
from marketplace.models import Maintenance

# More on one day are counted, and read in the list beside the calendar.
_SHOWN: Final = 3
_MONTH: Final = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Entry:
    """On one day. begins, ends: whether it does so on this day, and not before or after it."""

    row: Maintenance
    where: str
    begins: bool
    ends: bool


@dataclass(frozen=True)
class Day:
    day: date
    in_month: bool
    today: bool
    entries: tuple[Entry, ...]
    more: int


@dataclass(frozen=True)
class Month:
    first: date
    weeks: tuple[tuple[Day, ...], ...]

    @property
    def before(self) -> str:
        return f"{self.first - timedelta(days=1):%Y-%m}"

    @property
    def after(self) -> str:
        return f"{self.first + timedelta(days=31):%Y-%m}"

    @property
    def is_empty(self) -> bool:
        return not any(day.entries for week in self.weeks for day in week)


def month_named(text: str | None, today: date) -> date:
    """The first day of the month that an address names, or of the present one; NotFound."""
    if text is None:
        return today.replace(day=1)
    found = _MONTH.fullmatch(text)
    if found is None:
        raise NotFound("page")
    return date(int(found[1]), int(found[2]), 1)


def month_of(
    first: date, today: date, rows: Iterable[Maintenance], where: Callable[[Maintenance], str]
) -> Month:
    """Whole weeks from Monday, so days of the months beside it as well."""
    known = sorted(rows, key=lambda row: (row.starts_at, row.id))
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)

    def of(day: date) -> Day:
        found = [entry for row in known if (entry := _on(row, day, where))]
        return Day(
            day=day,
            in_month=day.month == first.month,
            today=day == today,
            entries=tuple(found[:_SHOWN]),
            more=max(0, len(found) - _SHOWN),
        )

    return Month(first, tuple(tuple(of(day) for day in week) for week in weeks))


def span(first: date) -> tuple[datetime, datetime]:
    """From the first moment that the grid shows to the first that it does not."""
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    start = datetime.combine(weeks[0][0], time(), UTC)
    return start, datetime.combine(weeks[-1][-1] + timedelta(days=1), time(), UTC)


def _on(row: Maintenance, day: date, where: Callable[[Maintenance], str]) -> Entry | None:
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    if row.starts_at >= end or (row.ends_at is not None and row.ends_at <= start):
        return None
    ends = row.ends_at is not None and row.ends_at <= end
    return Entry(row, where(row), begins=row.starts_at >= start, ends=ends)
