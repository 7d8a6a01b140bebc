"""Since when cards are quiet, and how far apart the points of a series are: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provisioner.contracts.reports import DeviceReport, InstanceReport
from provisioner.instances.quiet import MOST_GAP, QUIET_PERCENT, Watched, quiet_since
from provisioner.instances.samples import MOST_POINTS, step_for

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(hours=1)


def report(*percents: float | None, boot: str = "a") -> InstanceReport:
    cards = [DeviceReport(f"GPU-{n}", one, None, None) for n, one in enumerate(percents)]
    return InstanceReport(NOON, cards, boot=boot)


def since(before: Watched | None, *percents: float | None, gpus: int = 2, boot: str = "a"):
    return quiet_since(before, report(*percents, boot=boot), gpus=gpus, at=NOON)


def seen(ago: timedelta, quiet: datetime | None = EARLIER, boot: str = "a") -> Watched:
    return Watched(NOON - ago, boot, quiet)


def test_the_first_quiet_report_begins_the_window() -> None:
    assert since(None, 0, QUIET_PERCENT) == NOON
    assert since(seen(timedelta(seconds=15), quiet=None), 0, 0) == NOON


def test_quiet_goes_on_over_a_gap_of_a_minute_and_no_longer() -> None:
    assert since(seen(MOST_GAP), 0, 0) == EARLIER
    assert since(seen(MOST_GAP + timedelta(microseconds=1)), 0, 0) == NOON
    assert since(seen(-timedelta(seconds=1)), 0, 0) == NOON, "a clock that was put back"


@pytest.mark.parametrize(
    "percents", [(0, QUIET_PERCENT + 0.1), (100, 0), (0, None), (None, None), (0,), ()]
)
def test_one_card_that_works_or_is_not_told_ends_it(percents) -> None:
    assert since(seen(timedelta(seconds=15)), *percents) is None


def test_a_program_that_began_anew_begins_it_anew() -> None:
    assert since(seen(timedelta(seconds=15), boot="b"), 0, 0) == NOON


@pytest.mark.parametrize(
    ("hours", "wanted", "step"),
    [
        (1, None, 30),
        (1, 30, 30),
        (1, 45, 45),
        (2, None, 30),
        (2.1, None, 300),  # what is older than two hours is kept in five minutes
        (24, None, 300),
        (24, 30, 300),
        (24, 900, 900),
        (48, None, 300),
        (49, None, 3600),
        (24 * 29, None, 3600),
        (24 * 29, 30, 3600),
    ],
)
def test_steps_are_what_is_kept_and_bounded(hours: float, wanted: int | None, step: int) -> None:
    begin = NOON - timedelta(hours=hours)
    found = step_for(since=begin, until=NOON, at=NOON, wanted=wanted)
    assert found == step
    assert hours * 3600 / found + 2 <= MOST_POINTS


def test_a_year_is_no_more_points_than_a_month() -> None:
    begin = NOON - timedelta(days=366)
    step = step_for(since=begin, until=NOON, at=NOON, wanted=None)
    assert 366 * 86400 / step + 2 <= MOST_POINTS
