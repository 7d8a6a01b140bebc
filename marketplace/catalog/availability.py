"""When the cards of an offer are for rent: weekly windows, an end date, closures. PURE.

Windows are in the wall clock of a place, so that "from eight in the evening" stays that through a
change to summer time. What is asked is always the same: the stretch of time in which the offer is
open now, or the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from kernel.errors import InvalidRequest

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
MOST_WINDOWS: Final = 21  # three a day
# What repeats every week is looked at so far ahead: a gap, if there is one, is found in the first.
_WEEK: Final = timedelta(days=7)
_HORIZON: Final = 2 * _WEEK + timedelta(days=1)
# The nearest end that is worth a start: pulling an image and saving one's work take their time.
LEAST: Final = timedelta(minutes=20)


@dataclass(frozen=True)
class Window:
    """Some days of the week, from one time of day to another; to the next day's where ``to`` is
    not later than ``start``."""

    days: tuple[str, ...]
    start: time
    to: time


@dataclass(frozen=True)
class Weekly:
    """The windows of an offer and the zone whose clocks they mean."""

    timezone: str
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Stretch:
    """[opens, closes) with the cards for rent; ``closes`` None: as far as is known, for good."""

    opens: datetime
    closes: datetime | None


def read(value: Any) -> Weekly | None:
    """Windows as an owner gives them: ``{"timezone": "Europe/Berlin", "weekly": [{"days": ["mon"],
    "from": "20:00", "to": "08:00"}]}``, or null for always. Raises InvalidRequest (windows)."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"timezone", "weekly"}:
        raise _wrong("an object of timezone and weekly, or null for always")
    zone, weekly = value["timezone"], value["weekly"]
    if not isinstance(zone, str) or zone not in _zones():
        raise _wrong('timezone: a name of the IANA database, such as "Europe/Berlin"')
    if not isinstance(weekly, list) or not 1 <= len(weekly) <= MOST_WINDOWS:
        raise _wrong(f"weekly: from 1 to {MOST_WINDOWS} windows")
    return Weekly(zone, tuple(map(_window, weekly)))


def kept(weekly: Weekly | None) -> dict[str, Any] | None:
    """The JSON that :func:`read` reads back."""
    if weekly is None:
        return None
    return {
        "timezone": weekly.timezone,
        "weekly": [
            {"days": list(each.days), "from": f"{each.start:%H:%M}", "to": f"{each.to:%H:%M}"}
            for each in weekly.windows
        ],
    }


def stretch(
    *,
    weekly: Weekly | None,
    ends_at: datetime | None,
    closures: Sequence[tuple[datetime, datetime | None]] = (),
    now: datetime,
) -> Stretch | None:
    """The stretch that ``now`` lies in, else the next; None: never again, or not within a week.

    closures: [from, to) in which nothing is for rent; ``to`` None: for good.
    """
    far = now + _HORIZON
    spans = [(now, far)] if weekly is None else _merged(_weekly(weekly, now, far))
    for begin, end in closures:
        spans = [part for span in spans for part in _less(span, begin, end)]
    if ends_at is not None:
        spans = [(begin, min(end, ends_at)) for begin, end in spans if begin < ends_at]
    found = next((span for span in spans if span[1] > now), None)
    if found is None or (found[1] >= far and found[0] > far - _WEEK):
        return None  # so near the horizon nobody knows yet where it ends
    return Stretch(found[0], None if found[1] >= far else found[1])


@cache
def _zones() -> frozenset[str]:
    """Finding them reads a directory of files."""
    return frozenset(available_timezones())


def _weekly(weekly: Weekly, now: datetime, far: datetime) -> Iterable[tuple[datetime, datetime]]:
    """Each window of the days around, cut off at ``far``."""
    zone = ZoneInfo(weekly.timezone)
    first = now.astimezone(zone).date() - timedelta(days=1)
    for number in range(_HORIZON.days + 3):
        day = first + timedelta(days=number)
        for window in weekly.windows:
            if DAYS[day.weekday()] not in window.days:
                continue
            until = day if window.to > window.start else day + timedelta(days=1)
            begin, end = _instant(day, window.start, zone), _instant(until, window.to, zone)
            if begin < far and begin < end:
                yield begin, min(end, far)


def _instant(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """A time of day that a change of the clocks skips is the one that they then show."""
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)


def _merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _less(
    span: tuple[datetime, datetime], begin: datetime, end: datetime | None
) -> list[tuple[datetime, datetime]]:
    """What a closure leaves of a span."""
    parts = [(span[0], min(span[1], begin))]
    if end is not None:
        parts.append((max(span[0], end), span[1]))
    return [(since, until) for since, until in parts if since < until]


def _window(value: Any) -> Window:
    if not isinstance(value, Mapping) or set(value) != {"days", "from", "to"}:
        raise _wrong("each window is an object of days, from and to")
    days = value["days"]
    if not isinstance(days, list) or not days or not all(day in DAYS for day in days):
        raise _wrong(f"days: some of {', '.join(DAYS)}")
    return Window(
        tuple(day for day in DAYS if day in days), _clock(value["from"]), _clock(value["to"])
    )


def _clock(value: Any) -> time:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _wrong('from and to: a time of day such as "20:00"')
    return time(int(found[1]), int(found[2]))


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest({"windows": [message]})
