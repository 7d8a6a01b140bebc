"""Stock and prices of each card over time: a sample an hour, read by the hour and by the day.

A sample is taken by one statement for all cards, from the maintained summary; taken twice it counts
once. Limits: it is the first look of its hour and no average of it, and what is on sale by the
quarter of an hour may never be seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median_low
from typing import Final

from django.db.models import Count, Max, Min, Sum

from kernel.clock import AppNow, hour_of, now
from marketplace.catalog.market import Percentile
from marketplace.catalog.stock import on_sale
from marketplace.models import CardSample, Rental

# What is told: a week by the hour, a season to see where prices go.
DAYS: Final = (7, 30, 90)
DEFAULT_DAYS: Final = 30
# A year, and a month more to compare it with.
KEPT: Final = timedelta(days=400)
# Below this an average price would be the price of somebody who can be guessed.
_LEAST_RENTALS: Final = 3
_LEAST_RENTERS: Final = 2
_PAYING: Final = (Rental.State.RUNNING, Rental.State.DEGRADED, Rental.State.INTERRUPTING)


@dataclass(frozen=True)
class DayPrices:
    """Per GPU and hour, in micro-units; None: nothing was on sale, or too few rented."""

    day: date
    lowest_micro: int | None = None
    median_micro: int | None = None
    rented_micro: int | None = None


@dataclass(frozen=True)
class HourStock:
    hour: datetime
    free: int
    total: int
    largest_block: int


@dataclass(frozen=True)
class CardHistory:
    """``days``: every day, today last. ``hours``: those with a sample, the oldest first."""

    since: datetime
    until: datetime
    days: Sequence[DayPrices]
    hours: Sequence[HourStock]


def record() -> int:
    """The sample of this hour, of every card on sale; how many rows it has, 0 if it was there."""
    hour = hour_of(now())
    if CardSample.objects.filter(hour=hour).exists():
        return 0
    rented = _rented()
    found = (
        on_sale()
        .order_by()
        .values("group__accelerator")
        .annotate(
            offers=Count("id"),
            total=Sum("group__slots_total"),
            free=Sum("group__slots_free"),
            block=Max("group__largest_block"),
            lowest=Min("price_micro_h"),
            median=Percentile("price_micro_h", share="0.5"),
        )
    )
    samples = [
        CardSample(
            accelerator=row["group__accelerator"],
            hour=hour,
            offers=row["offers"],
            slots_total=row["total"],
            slots_free=row["free"],
            largest_block=row["block"],
            lowest_micro=row["lowest"],
            median_micro=row["median"],
            **rented.get(row["group__accelerator"], {}),
        )
        for row in found
    ]
    CardSample.objects.bulk_create(samples, ignore_conflicts=True)
    return len(samples)


def _rented() -> dict[str, dict[str, int]]:
    rows = (
        Rental.objects.filter(state__in=_PAYING, interruptible=False)
        .order_by()
        .values("accelerator")
        .annotate(
            rentals=Count("id"),
            renters=Count("organization", distinct=True),
            cards=Sum("gpus"),
            paid=Sum("price_micro_h"),
        )
    )
    return {
        row["accelerator"]: {"rented_gpus": row["cards"], "rented_micro": row["paid"]}
        for row in rows
        if row["rentals"] >= _LEAST_RENTALS and row["renters"] >= _LEAST_RENTERS
    }


def forget() -> int:
    """Delete samples past their time; how many."""
    deleted, _ = CardSample.objects.filter(hour__lt=AppNow() - KEPT).delete()
    return deleted


def history(accelerator: str, *, days: int) -> CardHistory:
    """Of one card, up to now; one statement. A season has some two thousand samples at most, so
    days are made of them here."""
    until = now()
    today = until.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=days - 1)
    by_day: dict[date, list[CardSample]] = defaultdict(list)
    hours = []
    for row in CardSample.objects.filter(accelerator=accelerator, hour__gte=since).order_by("hour"):
        by_day[row.hour.astimezone(UTC).date()].append(row)
        hours.append(HourStock(row.hour, row.slots_free, row.slots_total, row.largest_block))
    every = [(since + timedelta(days=number)).date() for number in range(days)]
    return CardHistory(since, until, [_day(day, by_day.get(day, [])) for day in every], hours)


def _day(day: date, samples: Sequence[CardSample]) -> DayPrices:
    """The lowest of a day, the median of its medians, and what cards that worked cost on average:
    an hour with more of them weighs more."""
    if not samples:
        return DayPrices(day)
    cards = sum(sample.rented_gpus or 0 for sample in samples)
    paid = sum(sample.rented_micro or 0 for sample in samples)
    return DayPrices(
        day,
        lowest_micro=min(sample.lowest_micro for sample in samples),
        median_micro=median_low(sample.median_micro for sample in samples),
        rented_micro=paid // cards if cards else None,
    )


def stock_steps(found: CardHistory, *, hours: int) -> list[HourStock | None]:
    """The stock in steps of so many hours from ``since`` to ``until``, each the mean of its
    samples rounded to whole cards; None: no sample. Pure."""
    width = timedelta(hours=hours)
    count = (found.until - found.since) // width + 1
    steps: list[list[HourStock]] = [[] for _ in range(count)]
    for sample in found.hours:
        steps[(sample.hour - found.since) // width].append(sample)
    return [
        _mean(found.since + number * width, samples) if samples else None
        for number, samples in enumerate(steps)
    ]


def _mean(at: datetime, samples: Sequence[HourStock]) -> HourStock:
    def of(values: Sequence[int]) -> int:
        return round(sum(values) / len(values))

    return HourStock(
        at,
        free=of([sample.free for sample in samples]),
        total=of([sample.total for sample in samples]),
        largest_block=of([sample.largest_block for sample in samples]),
    )
