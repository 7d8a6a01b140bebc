"""When nothing fits: the smallest changes to the question that would find something.

First every filter alone, then pairs; each with the number of offers it opens and their lowest
price. Nothing is changed for the renter: these are suggestions in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import combinations
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, F, Min, QuerySet
from django.db.models.expressions import OrderBy

from kernel.clock import AppNow
from kernel.errors import Refusal
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.catalog.needs import MIB_PER_GIB, whole_gib
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.registry import by_slug
from marketplace.catalog.search import alternatives, amount, hours_left, reliability_of
from marketplace.catalog.stock import fitting, has_way_in, price_column
from marketplace.models import Offer, Rental

_SHOWN: Final = 8  # the answer stays readable; the cheapest come first
# Where the best offer behind a filter is not the cheapest but the nearest to what was asked.
_NEAREST: Final[Mapping[str, str | OrderBy]] = {
    "gpus": "-group__largest_block",
    "min_memory_gib": "-group__memory_mib",
    "min_vcpus": "-group__vcpus_milli_per_gpu",
    "min_ram_gib": "-group__ram_mib_per_gpu",
    "min_disk_gib": "-group__disk_mib_per_gpu",
    "min_cuda": "-group__cuda_max_x100",
    "min_hours": "-closes_at",
    "min_reliability": F("group__reliability_bp").desc(nulls_last=True),
}


def _interconnect(offer: Offer) -> str:
    card = by_slug().get(offer.group.accelerator)
    return (card.interconnect if card else None) or "none"


# What the filter would have to say for this offer to match; the second argument is the cards.
_FITS: Final[Mapping[str, Callable[[Offer, int], Any]]] = {
    "accelerator": lambda offer, _: (offer.group.accelerator,),
    "vendor": lambda offer, _: offer.group.vendor,
    "gpus": lambda offer, _: offer.group.largest_block,
    "min_memory_gib": lambda offer, _: Decimal(whole_gib(offer.group.memory_mib)),
    "min_vcpus": lambda offer, gpus: _decimal(offer.group.vcpus_milli_per_gpu * gpus, 1000),
    "min_ram_gib": lambda offer, gpus: _decimal(offer.group.ram_mib_per_gpu * gpus, MIB_PER_GIB),
    "min_disk_gib": lambda offer, gpus: _decimal(offer.group.disk_mib_per_gpu * gpus, MIB_PER_GIB),
    "min_cuda": lambda offer, _: offer.group.cuda_max or None,
    "region": lambda offer, _: offer.region,
    "country": lambda offer, _: offer.country,
    "ownership": lambda offer, _: offer.ownership,
    "tier": lambda offer, _: offer.tier,
    "isolation": lambda offer, _: offer.isolation,
    "interruptible": lambda offer, _: None,  # left out
    "ssh": lambda offer, _: has_way_in(offer),
    "storage": lambda offer, _: offer.group.storage_domain,
    "min_reliability": lambda offer, _: reliability_of(offer),
    "egress": lambda offer, _: offer.group.egress,
    "min_hours": lambda offer, _: hours_left(offer),
    "interconnect": lambda offer, _: _interconnect(offer),
    "sharing_mode": lambda offer, _: offer.group.sharing_mode,
}


def _decimal(value: int, unit: int) -> Decimal:
    return Decimal(str(amount(value, unit)))


@dataclass(frozen=True)
class _Question:
    """What found nothing: the filters, a template's needs, and the offers that were tried."""

    query: OfferQuery
    needs: Mapping[str, Any]
    tried: Collection[UUID]

    def offers(self, query: OfferQuery) -> QuerySet[Offer]:
        """What fits another query and has the cards. The summary may be a second old, so offers
        that were just found without enough cards are left out, but for fewer cards than that."""
        found = fitting(query, needs=self.needs)
        found = found.filter(group__largest_block__gte=query.asked_gpus)
        if query.gpus is None or query.gpus < self.query.asked_gpus:
            return found.exclude(id__in=self.tried, group__largest_block__gte=self.query.asked_gpus)
        return found.exclude(id__in=self.tried)


def relaxations(
    query: OfferQuery, needs: Mapping[str, Any] | None = None, tried: Collection[UUID] = ()
) -> list[dict[str, Any]]:
    """``[{"changes": [{field, from, to}], "count", "price_per_gpu_hour", "currency"}]``."""
    question = _Question(query, needs or {}, tried)
    return _try(question, 1) or _try(question, 2)


def _try(question: _Question, size: int) -> list[dict[str, Any]]:
    found = []
    for changed in combinations(question.query.asked(), size):
        relaxed = _relax(question, changed)
        if relaxed is not None:
            found.append(relaxed)
    found.sort(key=lambda item: (Decimal(item["price_per_gpu_hour"]), str(item["changes"])))
    return found[:_SHOWN]


def _relax(question: _Question, changed: tuple[str, ...]) -> dict[str, Any] | None:
    """The change of exactly these filters that comes nearest; None when it finds nothing."""
    query = question.query
    dropped: dict[str, Any] = {name: () if name == "accelerator" else None for name in changed}
    ordering = [_NEAREST[name] for name in changed if name in _NEAREST]
    wider = replace(query, **dropped)
    price = price_column(wider)
    best = question.offers(wider).select_related("group").order_by(*ordering, price, "id").first()
    if best is None:
        return None
    gpus = best.group.largest_block if "gpus" in changed else query.asked_gpus
    values = {
        name: getattr(best, price) if name == "max_price" else _FITS[name](best, gpus)
        for name in changed
    }
    if any(values[name] == getattr(query, name) for name in changed):
        return None
    opened = question.offers(replace(query, **values))
    found = opened.aggregate(count=Count("id"), lowest=Min(price))
    count, lowest = found["count"], found["lowest"]
    if not count:
        return None
    return {
        "changes": [
            {
                "field": name,
                "from": _json(name, getattr(query, name)),
                "to": _json(name, values[name]),
            }
            for name in changed
        ],
        "count": count,
        "price_per_gpu_hour": format_micro(lowest),
        "currency": CURRENCY,
    }


def _json(name: str, value: Any) -> Any:
    """A filter's value as the API writes it."""
    if name == "max_price":
        return format_micro(value)
    if isinstance(value, tuple):
        return value[0] if len(value) == 1 else list(value)
    return str(value) if isinstance(value, Decimal) else value


def no_capacity(
    query: OfferQuery, needs: Mapping[str, Any] | None = None, tried: Collection[UUID] = ()
) -> Refusal:
    """409 for a requirement that nothing fits now; ``tried`` offers had too few cards."""
    return Refusal(
        "no_capacity",
        "No cards that are free now fit everything you asked for. Nothing was stored or charged. "
        "Change one of the things named in relaxations, or try again later.",
        relaxations=relaxations(query, needs, tried),
        alternatives=[],
        next_free_estimate=_next_free(query),
    )


def offer_taken(
    offer: Offer, gpus: int, *, interruptible: bool = False, ssh: bool = False
) -> Refusal:
    """409 for a named offer that cannot take the order now; ``ssh``: somebody has to get in."""
    query = OfferQuery(
        accelerator=(offer.group.accelerator,),
        gpus=gpus,
        interruptible=interruptible or None,
        ssh=ssh or None,
    )
    return Refusal(
        "offer_taken",
        "The cards of this offer were taken by somebody else or it left the market. Nothing was "
        "stored or charged. Choose one of the alternatives, or fewer cards.",
        alternatives=alternatives(query, besides=offer.id),
        relaxations=relaxations(query, tried=[offer.id]),
        next_free_estimate=_next_free(query),
    )


def _next_free(query: OfferQuery) -> str | None:
    """The earliest end date of a rental on a matching offer; null when none is known."""
    matching = fitting(replace(query, gpus=None)).values("id")
    busy = Rental.objects.filter(offer__in=matching, ended_at=None, expires_at__gt=AppNow())
    held = busy.exclude(state__in=(Rental.State.FAILED, Rental.State.STOPPED))
    first: datetime | None = held.aggregate(first=Min("expires_at"))["first"]
    return rfc3339(first)
