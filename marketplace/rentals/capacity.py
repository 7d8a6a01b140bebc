"""Capacity for staff: what cards there are and do, how full they are, and what was wanted in vain.

Use is what was charged, as for margins; the time on sale is the time that cards were there. Both by
card type: usage lines know no region. A card that was off sale for a while still counts as there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Max

from kernel.clock import now
from marketplace.accounts.access import STAFF, Principal
from marketplace.models import DataCenter, Rental
from marketplace.providers.earned import occupancy
from marketplace.providers.margins import CardMargin, margins
from marketplace.rentals.unmet import Unmet, unmet
from provisioner.contracts.desk import StockView
from provisioner.facade import desk as provisioner

WINDOW: Final = timedelta(days=7)
_SHAPES: Final = 50


@dataclass(frozen=True)
class Stock:
    """Cards of one type in one region, or in all of them."""

    region: str
    total: int
    free: int
    off_sale: int
    held: int
    dirty: int
    cordoned: int
    # Of the free cards, the part in blocks that are too small for the largest order that a node
    # there could take; None where none is free.
    scattered: Decimal | None

    @property
    def busy(self) -> Decimal | None:
        """The part that is rented now of what could be."""
        return occupancy(self.held, self.held + self.free + self.dirty)


@dataclass(frozen=True)
class CardCapacity:
    """One card type. largest: most cards of it that anybody ordered at once in the window; used:
    the part of the time on sale that was charged; margin: what its use left."""

    accelerator: str
    everywhere: Stock
    regions: list[Stock]
    largest: int
    used: Decimal | None
    margin: CardMargin | None


@dataclass(frozen=True)
class Capacity:
    since: datetime
    cards: list[CardCapacity]
    unmet: list[Unmet]


def capacity(*, acting: Principal) -> Capacity:
    """Everything of the page; the number of queries is fixed, whatever there is."""
    acting.require(STAFF)
    present = now()
    since = present - WINDOW
    groups = provisioner.stock(since=since)
    regions = dict(DataCenter.objects.values_list("id", "region"))
    earned = {
        one.accelerator: one
        for one in margins(acting=acting, from_at=since, to_at=present, cost_micro_h={})
    }
    wanted = unmet(acting=acting, since=since, limit=_SHAPES)
    largest = _largest(since, wanted)
    by_card: dict[str, list[StockView]] = defaultdict(list)
    for group in groups:
        if group.total or group.there_seconds:
            by_card[group.accelerator].append(group)
    cards = []
    for name, views in sorted(by_card.items()):
        places: dict[str, list[StockView]] = defaultdict(list)
        for view in views:
            places[regions.get(view.datacenter_ref, "")].append(view)
        cards.append(
            CardCapacity(
                accelerator=name,
                everywhere=_stock("", views, largest[name]),
                regions=[
                    _stock(region, of, largest[name]) for region, of in sorted(places.items())
                ],
                largest=largest[name],
                used=_used(earned.get(name), views),
                margin=earned.get(name),
            )
        )
    return Capacity(since, cards, wanted)


def _largest(since: datetime, wanted: Iterable[Unmet]) -> Mapping[str, int]:
    """The most cards of each type that one order wanted, taken or refused; 1 where none did."""
    rows = Rental.objects.filter(created_at__gt=since).order_by().values_list("accelerator")
    found: Counter[str] = Counter(dict(rows.annotate(most=Max("gpus"))))
    for one in wanted:
        found[one.accelerator] = max(found[one.accelerator], one.gpus)
    return defaultdict(lambda: 1, found)


def _used(margin: CardMargin | None, views: Iterable[StockView]) -> Decimal | None:
    charged = margin.owned.use.gpu_seconds + margin.partner.use.gpu_seconds if margin else 0
    return occupancy(charged, sum(view.there_seconds for view in views))


def _stock(region: str, views: list[StockView], largest: int) -> Stock:
    return Stock(
        region=region,
        total=sum(view.total for view in views),
        free=sum(view.free for view in views),
        off_sale=sum(view.off_sale for view in views),
        held=sum(view.held for view in views),
        dirty=sum(view.dirty for view in views),
        cordoned=sum(view.cordoned for view in views),
        scattered=scattered(views, largest),
    )


def scattered(views: Iterable[StockView], largest: int) -> Decimal | None:
    """The part of the free cards in blocks too small for the largest order of the window, or for
    one of a whole node where no node is as large as that; None where none is free."""
    free = small = 0
    for view in views:
        shape = min(largest, view.largest_node)
        for size, blocks in view.blocks.items():
            free += size * blocks
            small += size * blocks if size < shape else 0
    return occupancy(small, free)
