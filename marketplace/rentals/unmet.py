"""Orders that found no card, counted per hour and shape: what people wanted and we did not have.

Counted where the refusal is raised, outside the order's transaction, which left nothing. A process
counts in memory and writes at most once a second, one statement for all that came since, so that a
storm of refusals makes no row hot and no order slow. What a process counted in its last second is
written with its next refusal, or lost with the process: a figure for people, no bookkeeping.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum

from kernel.clock import hour_of, now
from kernel.ids import new_id
from marketplace.accounts.access import STAFF, Principal
from marketplace.catalog.query import OfferQuery
from marketplace.models import DataCenter, Quote, UnmetDemand

log = structlog.get_logger(__name__)

# Longer, and a process that ends loses more; shorter, and a storm writes more often for nobody.
_EVERY_S: Final = 1.0
# Shapes that one process counts between two writes; further ones are "elsewhere". A person's
# mistakes in a name of a region must not become rows without end.
_MOST: Final = 200
ELSEWHERE: Final = "elsewhere"
# A refusal waits this long at most for another process that writes the same hour's row.
_WAIT: Final = "SET LOCAL lock_timeout = '100ms'"
KEPT: Final = timedelta(days=90)
_ADD: Final = """
INSERT INTO marketplace_unmetdemand (id, hour, reason, accelerator, region, gpus, orders)
SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::int[],
                     %s::int[])
ON CONFLICT (hour, reason, accelerator, region, gpus)
DO UPDATE SET orders = marketplace_unmetdemand.orders + excluded.orders
"""


class Shape(NamedTuple):
    """What was asked for. Empty texts: any. gpus: rounded up to a power of two."""

    hour: datetime
    reason: str
    accelerator: str
    region: str
    gpus: int


@dataclass(frozen=True)
class Unmet:
    """Orders of one shape over some days."""

    reason: str
    accelerator: str
    region: str
    gpus: int
    orders: int


class Tally:
    """One process's counts. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Shape] = Counter()
        self._written = float("-inf")

    def add(self, shape: Shape) -> Mapping[Shape, int]:
        """Count one; what is to be written now, if anything is."""
        with self._lock:
            if shape not in self._counts and len(self._counts) >= _MOST:
                shape = shape._replace(accelerator="", region=ELSEWHERE)
            self._counts[shape] += 1
            if time.monotonic() - self._written < _EVERY_S:
                return {}
            self._written = time.monotonic()
            taken, self._counts = self._counts, Counter()
            return taken

    def give_back(self, counts: Mapping[Shape, int]) -> None:
        """What could not be written waits for the next time."""
        with self._lock:
            self._counts.update(counts)


_tally = Tally()


def note(reason: str, gpus: int, *, quote: Quote | None, query: OfferQuery | None) -> None:
    """Count an order that was refused for want of cards. Never raises for the database's sake.

    quote: made for cards of one offer; else what was asked for.
    """
    cards: tuple[str, ...] = ()
    region: str | None = None
    if quote is not None:
        cards, region = (quote.offer.group.accelerator,), quote.offer.region
    elif query is not None:
        cards, region = query.accelerator, query.region
    counts = _tally.add(
        Shape(
            hour_of(datetime.now(UTC)),
            reason,
            cards[0] if len(cards) == 1 else "",
            region or "",
            1 << (max(gpus, 1) - 1).bit_length(),
        )
    )
    if not counts:
        return
    try:
        _write(counts)
    except DatabaseError as error:
        _tally.give_back(counts)
        log.warning("unmet_demand_not_written", shapes=len(counts), error=type(error).__name__)


def _write(counts: Mapping[Shape, int]) -> None:
    known = {"", ELSEWHERE, *DataCenter.objects.values_list("region", flat=True).distinct()}
    summed: Counter[Shape] = Counter()
    for shape, orders in counts.items():
        summed[shape if shape.region in known else shape._replace(region=ELSEWHERE)] += orders
    # In one order everywhere: two processes that write the same rows wait, and never for ever.
    shapes = sorted(summed)
    columns = [list(column) for column in zip(*shapes, strict=True)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_WAIT)
        ids = [new_id() for _ in shapes]
        cursor.execute(_ADD, [ids, *columns, [summed[shape] for shape in shapes]])


def unmet(*, acting: Principal, since: datetime, limit: int) -> list[Unmet]:
    """Shapes that were wanted since then, the most wanted first."""
    acting.require(STAFF)
    rows = (
        UnmetDemand.objects.filter(hour__gte=hour_of(since))
        .order_by()
        .values_list("reason", "accelerator", "region", "gpus")
        .annotate(total=Sum("orders"))
        .order_by("-total", "accelerator", "gpus")
    )
    return [Unmet(*row) for row in rows[:limit]]


def forget() -> int:
    """Drop what is older than anybody asks for; how many rows."""
    gone, _ = UnmetDemand.objects.filter(hour__lt=now() - KEPT).delete()
    return gone
