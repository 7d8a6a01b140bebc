"""Windows of use at a price, cumulative: ticked once, hourly or each second, the same total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from billing.contracts import UsageWindow
from billing.rating.rounding import charged

_HOUR = timedelta(hours=1)
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Tally:
    """What a rental was rated to so far, and at which price."""

    price_micro_h: int
    provider_micro_h: int
    billable_seconds: int = 0
    charged_until: datetime | None = None


@dataclass(frozen=True)
class Rated:
    """One window with its price: amount = provider + fee."""

    source_ref: UUID
    from_at: datetime
    to_at: datetime
    seconds: int
    amount_micro: int
    provider_micro: int

    @property
    def fee_micro(self) -> int:
        return self.amount_micro - self.provider_micro


def check(window: UsageWindow) -> None:
    """ValueError unless the window is whole seconds, not empty, and inside one UTC hour."""
    start, end = window.from_at, window.to_at
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError(f"a usage window of {window.rental_ref} has no time zone")
    if start.microsecond or end.microsecond:
        raise ValueError(f"a usage window of {window.rental_ref} is not in whole seconds")
    if end <= start:
        raise ValueError(f"a usage window of {window.rental_ref} ends before it starts")
    hour = start.astimezone(UTC).replace(minute=0, second=0)
    if end > hour + _HOUR:
        raise ValueError(f"a usage window of {window.rental_ref} leaves its UTC hour")


def rate(
    tally: Tally, windows: Iterable[UsageWindow], covered: Iterable[Span] = ()
) -> tuple[list[Rated], Tally]:
    """The windows of one rental with their prices, and the tally after them.

    ``covered`` are the spans charged before that the windows may touch: what lies in them, or in
    an earlier window of this call, is cut out, so sending a window again costs nothing, and
    seconds proven late are charged late, whatever came after them.
    """
    rated: list[Rated] = []
    taken = list(covered)
    seconds, until = tally.billable_seconds, tally.charged_until
    for window in sorted(windows, key=lambda one: (one.from_at, one.to_at)):
        for start, end in _uncovered((window.from_at, window.to_at), taken):
            length = int((end - start).total_seconds())
            after = seconds + length
            amount = charged(tally.price_micro_h, after) - charged(tally.price_micro_h, seconds)
            share = charged(tally.provider_micro_h, after) - charged(
                tally.provider_micro_h, seconds
            )
            rated.append(Rated(window.source_ref, start, end, length, amount, share))
            taken.append((start, end))
            seconds, until = after, end if until is None else max(until, end)
    return rated, Tally(tally.price_micro_h, tally.provider_micro_h, seconds, until)


def _uncovered(span: Span, taken: Iterable[Span]) -> list[Span]:
    """What of ``span`` lies in none of ``taken``, in order."""
    rest, start = [], span[0]
    for begin, end in sorted(taken):
        if end <= start or begin >= span[1]:
            continue
        if begin > start:
            rest.append((start, begin))
        start = end
        if start >= span[1]:
            return rest
    return [*rest, (start, span[1])]
