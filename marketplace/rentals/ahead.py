"""How the balance will run if what runs now runs to its end dates and nothing is rented. PURE.

A straight line between ends: burn is constant until a rental ends, then less. It is what people
plan by, not what stops anything; that is the hold's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Running:
    """Something that costs by the hour; ends_at None: until the money is used up."""

    per_hour_micro: int
    ends_at: datetime | None


@dataclass(frozen=True)
class Point:
    at: datetime
    left_micro: int


def ahead(
    funds_micro: int, running: Iterable[Running], *, at: datetime, until: datetime
) -> list[Point]:
    """From ``at`` to ``until``, with a point wherever the burn changes; it ends at zero if the
    funds do. Empty when there is nothing to run on."""
    if funds_micro <= 0 or until <= at:
        return []
    rest = sorted(running, key=lambda each: each.ends_at or datetime.max.replace(tzinfo=at.tzinfo))
    burn = sum(each.per_hour_micro for each in rest)
    points, left, here = [Point(at, funds_micro)], funds_micro, at
    ends = sorted({each.ends_at for each in rest if each.ends_at and at < each.ends_at < until})
    for stop in [*ends, until]:
        cost = burn * (stop - here) // _HOUR
        if cost >= left and burn:
            points.append(Point(here + _HOUR * left / burn, 0))
            return points
        left, here = left - cost, stop
        points.append(Point(stop, left))
        burn -= sum(each.per_hour_micro for each in rest if each.ends_at == stop)
    return points
