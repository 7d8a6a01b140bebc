"""One card type as a whole: what it is, what of it is on sale and where, what was measured of it.

Everything is read from the maintained summary; no card is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count, Max, Min, QuerySet, Sum

from kernel.errors import NotFound
from marketplace.accounts.access import Principal
from marketplace.catalog.market import Percentile
from marketplace.catalog.needs import Has, unmet
from marketplace.catalog.registry import by_slug
from marketplace.catalog.stock import on_sale
from marketplace.catalog.templates import list_templates
from marketplace.models import Offer, Template
from provisioner.contracts import Accelerator

# What benchmarks and probes left with an offer: name -> column.
MEASURED: Final = {
    "benchmark": "group__score",
    "disk_read_mib_s": "group__disk_read_mib_s",
    "disk_write_mib_s": "group__disk_write_mib_s",
    "net_down_mbps": "group__net_down_mbps",
    "reliability_bp": "group__reliability_bp",
}


@dataclass(frozen=True)
class PlaceStock:
    """What is on sale in one region by one kind of owner."""

    region: str
    country: str
    ownership: str
    offers: int
    free: int
    total: int
    largest_block: int
    lowest_micro: int


@dataclass(frozen=True)
class CardView:
    """``measured``: (lowest, highest) of what any offer was measured to do, by name of
    :data:`MEASURED`. ``templates``: those that run on it, where the newest toolkit on sale decides.
    ``parts``: kinds of parts that it may be cut into."""

    card: Accelerator
    places: Sequence[PlaceStock]
    median_micro: int | None
    interruptible_from_micro: int | None
    measured: Mapping[str, tuple[float, float]]
    templates: Sequence[Template]
    parts: Sequence[Accelerator]

    @property
    def free(self) -> int:
        return sum(place.free for place in self.places)

    @property
    def total(self) -> int:
        return sum(place.total for place in self.places)

    @property
    def largest_block(self) -> int:
        return max((place.largest_block for place in self.places), default=0)

    @property
    def offers(self) -> int:
        return sum(place.offers for place in self.places)

    @property
    def lowest_micro(self) -> int | None:
        return min((place.lowest_micro for place in self.places), default=None)


def find_card(slug: str) -> Accelerator:
    """The row of the registry; raises NotFound."""
    found = by_slug().get(slug)
    if found is None:
        raise NotFound("card")
    return found


def card_view(slug: str, *, acting: Principal | None) -> CardView:
    """Raises NotFound. Three statements, however much is on sale."""
    card = find_card(slug)
    offers = on_sale().filter(group__accelerator=slug).order_by()
    whole = offers.aggregate(**_asked())
    runs = Has(card.vendor, card.toolkit, card.memory_mib, whole["toolkit"] or 0)
    return CardView(
        card=card,
        places=[PlaceStock(**row) for row in _places(offers)],
        median_micro=whole["median"],
        interruptible_from_micro=whole["interruptible"],
        measured={
            name: (whole[f"{name}_least"], whole[f"{name}_most"])
            for name in MEASURED
            if whole[f"{name}_most"] is not None
        },
        templates=[
            template
            for template in list_templates(acting).order_by("id")
            if not unmet(dict(template.needs), runs)
        ],
        parts=[row for row in by_slug().values() if row.partition and _is_part(row, card)],
    )


def _asked() -> dict[str, Any]:
    asked: dict[str, Any] = {
        "median": Percentile("price_micro_h", share="0.5"),
        "interruptible": Min("interruptible_price_micro_h"),
        "toolkit": Max("group__cuda_max_x100"),
    }
    for name, column in MEASURED.items():
        asked |= {f"{name}_least": Min(column), f"{name}_most": Max(column)}
    return asked


def _places(offers: QuerySet[Offer]) -> Any:
    return (
        offers.values("region", "country", "ownership")
        .annotate(
            offers=Count("id"),
            free=Sum("group__slots_free"),
            total=Sum("group__slots_total"),
            largest_block=Max("group__largest_block"),
            lowest_micro=Min("price_micro_h"),
        )
        .order_by("lowest_micro", "region", "country", "ownership")
    )


def _is_part(row: Accelerator, card: Accelerator) -> bool:
    """The registry names a part after its card."""
    return row.slug != card.slug and row.slug.startswith(f"{card.slug}-")
