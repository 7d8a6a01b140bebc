"""When people are told that money will end: once per fall, again only after it recovered. Pure."""

from __future__ import annotations

from datetime import timedelta

import pytest

from marketplace.rentals.ladder import next_rung


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


@pytest.mark.parametrize(
    ("told", "left", "expected"),
    [
        (None, 100, (None, False)),
        (None, 72, (72, True)),
        (None, 0.5, (1, True)),  # the steepest fall tells the nearest rung only
        (72, 71, (72, False)),
        (72, 24, (24, True)),
        (24, 1, (1, True)),
        (1, 0.1, (1, False)),
        (1, 1.25, (1, False)),  # within a quarter: rentals that come and go
        (1, 1.3, (24, False)),  # recovered by one rung, silently
        (24, 30, (24, False)),
        (24, 30.1, (72, False)),
        (72, 90, (72, False)),
        (72, 90.1, (None, False)),
    ],
)
def test_each_rung_is_told_once_per_fall_and_again_after_it_recovered(told, left, expected):
    assert next_rung(told, hours(left)) == expected


def test_a_fall_a_recovery_and_a_second_fall():
    told, said = None, []
    for left in (80, 70, 69, 25, 23, 20, 200, 71, 23, 0.9, 0.2):
        told, tell = next_rung(told, hours(left))
        said += [told] if tell else []
    assert said == [72, 24, 72, 24, 1]
