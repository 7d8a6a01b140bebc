"""When cards are for rent: the stretch that a moment lies in, against a minute-by-minute look."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRequest
from marketplace.catalog.availability import DAYS, Stretch, Weekly, Window, kept, read, stretch

NOW = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
NIGHTS: dict[str, Any] = {
    "timezone": "Europe/Berlin",
    "weekly": [{"days": [*DAYS], "from": "20:00", "to": "08:00"}],
}


def at(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_no_rule_is_open_for_good() -> None:
    assert stretch(weekly=None, ends_at=None, now=NOW) == Stretch(NOW, None)


def test_nights_in_the_clocks_of_the_place() -> None:
    nights = read(NIGHTS)
    # Berlin is an hour ahead of UTC in November.
    assert stretch(weekly=nights, ends_at=None, now=NOW) == Stretch(at(4, 19), at(5, 7))
    assert stretch(weekly=nights, ends_at=None, now=at(5, 3)) == Stretch(at(4, 19), at(5, 7))
    assert stretch(weekly=nights, ends_at=None, now=at(5, 7)) == Stretch(at(5, 19), at(6, 7))


def test_a_night_with_a_change_of_clocks_is_an_hour_longer_or_shorter() -> None:
    nights = read(NIGHTS)
    autumn = stretch(weekly=nights, ends_at=None, now=at(24, 22, month=10))
    spring = stretch(weekly=nights, ends_at=None, now=at(28, 22, month=3))
    assert autumn == Stretch(at(24, 18, month=10), at(25, 7, month=10))  # 13 hours
    assert spring == Stretch(at(28, 19, month=3), at(29, 6, month=3))  # 11 hours


def test_a_time_that_the_clocks_skip_is_the_one_they_show_then() -> None:
    early = {
        "timezone": "Europe/Berlin",
        "weekly": [{"days": ["sun"], "from": "02:30", "to": "05:00"}],
    }
    found = stretch(weekly=read(early), ends_at=None, now=at(28, 12, month=3))
    assert found == Stretch(at(29, 1, 30, month=3), at(29, 3, month=3))


def test_days_that_touch_are_one_stretch() -> None:
    weekend = {
        "timezone": "UTC",
        "weekly": [{"days": ["sat", "sun"], "from": "00:00", "to": "00:00"}],
    }
    assert stretch(weekly=read(weekend), ends_at=None, now=NOW) == Stretch(at(7, 0), at(9, 0))
    always = {"timezone": "UTC", "weekly": [{"days": [*DAYS], "from": "06:00", "to": "06:00"}]}
    found = stretch(weekly=read(always), ends_at=None, now=NOW)
    assert found is not None
    assert found.closes is None
    assert found.opens <= NOW


def test_an_end_date_and_closures_cut() -> None:
    nights = read(NIGHTS)
    assert stretch(weekly=nights, ends_at=at(5, 1), now=NOW) == Stretch(at(4, 19), at(5, 1))
    assert stretch(weekly=nights, ends_at=at(4, 19), now=NOW) is None
    assert stretch(weekly=None, ends_at=NOW, now=NOW) is None
    upkeep = [(at(5, 0), at(5, 2))]
    assert stretch(weekly=nights, ends_at=None, closures=upkeep, now=NOW) == Stretch(
        at(4, 19), at(5, 0)
    )
    assert stretch(weekly=nights, ends_at=None, closures=upkeep, now=at(5, 1)) == Stretch(
        at(5, 2), at(5, 7)
    )


def test_a_closure_without_an_end_closes_for_good() -> None:
    left = [(at(6, 0), None)]
    assert stretch(weekly=None, ends_at=None, closures=left, now=NOW) == Stretch(NOW, at(6, 0))
    assert stretch(weekly=None, ends_at=None, closures=left, now=at(6, 0)) is None


_CLOCKS = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
_WINDOWS = st.builds(
    Window,
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True).map(tuple),
    _CLOCKS,
    _CLOCKS,
)
# A month in which none of these zones changes its clocks.
_MOMENTS = st.integers(0, 20 * 96).map(lambda quarters: NOW + quarters * timedelta(minutes=15))


def _is_open(weekly: Weekly, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(weekly.timezone))
    clock, today = local.time(), DAYS[local.weekday()]
    yesterday = DAYS[(local.weekday() - 1) % 7]
    for each in weekly.windows:
        through = each.to <= each.start
        if today in each.days and each.start <= clock and (through or clock < each.to):
            return True
        if through and yesterday in each.days and clock < each.to:
            return True
    return False


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]),
    windows=st.lists(_WINDOWS, min_size=1, max_size=4).map(tuple),
    now=_MOMENTS,
    upkeep=st.lists(st.tuples(_MOMENTS, st.integers(1, 40)), max_size=2),
)
def test_it_is_what_a_look_at_every_quarter_finds(
    zone: str, windows: tuple[Window, ...], now: datetime, upkeep: list[tuple[datetime, int]]
) -> None:
    weekly = Weekly(zone, windows)
    closures = [(begin, begin + hours * HOUR) for begin, hours in upkeep]
    found = stretch(weekly=weekly, ends_at=None, closures=closures, now=now)

    def free(moment: datetime) -> bool:
        shut = any(begin <= moment < end for begin, end in closures)
        return _is_open(weekly, moment) and not shut

    quarters = [now + step * timedelta(minutes=15) for step in range(8 * 96)]
    opens = next((moment for moment in quarters if free(moment)), None)
    if found is None:
        assert opens is None
        return
    assert opens is None or max(found.opens, now) == opens
    if opens is not None:
        rest = [moment for moment in quarters if moment >= opens]
        closes = next((moment for moment in rest if not free(moment)), None)
        assert found.closes == closes or (closes is None and (found.closes or now) >= now)


@pytest.mark.parametrize(
    "value",
    [
        [],
        "always",
        {"timezone": "UTC"},
        {"timezone": "Mars/Base", "weekly": NIGHTS["weekly"]},
        {"timezone": 5, "weekly": NIGHTS["weekly"]},
        {"timezone": "UTC", "weekly": []},
        {"timezone": "UTC", "weekly": [{"days": ["monday"], "from": "20:00", "to": "08:00"}]},
        {"timezone": "UTC", "weekly": [{"days": [], "from": "20:00", "to": "08:00"}]},
        {"timezone": "UTC", "weekly": [{"days": ["mon"], "from": "24:00", "to": "08:00"}]},
        {"timezone": "UTC", "weekly": [{"days": ["mon"], "from": 20, "to": "08:00"}]},
        {"timezone": "UTC", "weekly": [{"days": [["mon"]], "from": "20:00", "to": "08:00"}]},
        {"timezone": "UTC", "weekly": [{"days": ["mon"], "from": "20:00"}]},
        {"timezone": "UTC", "weekly": [*NIGHTS["weekly"]] * 22},
        {"timezone": "UTC", "weekly": NIGHTS["weekly"], "more": 1},
    ],
)
def test_what_is_no_window_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        read(value)


def test_what_is_kept_reads_back() -> None:
    assert kept(read(NIGHTS)) == NIGHTS
    assert kept(read(None)) is None
