"""Which offers a question matches: one indexed join of offers with the maintained summary.

Nothing here counts slots: stock is the provisioner's summary row of the offer's group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from django.db.models import BigIntegerField, ExpressionWrapper, F, IntegerField, Q, QuerySet, Value
from django.db.models.functions import Cast, Greatest
from django.db.models.lookups import GreaterThanOrEqual

from kernel.clock import AppNow
from marketplace.accounts import switches
from marketplace.catalog.availability import LEAST
from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.query import EGRESS, OfferQuery, cuda_x100
from marketplace.models import Offer, Provider
from provisioner import facade as provisioner
from provisioner.contracts.homogeneity import SharingMode
from provisioner.facade import access

# Reliability is kept in ten-thousandths.
WHOLE: Final = 10_000


def price_column(query: OfferQuery) -> str:
    """The column with the price that holds for the question: orders that may be interrupted have
    their own."""
    return "interruptible_price_micro_h" if query.interruptible else "price_micro_h"


def on_sale() -> QuerySet[Offer]:
    """Active offers of approved owners whose cluster is ready and takes new rentals, and that are
    open for longer than it takes to start something."""
    return Offer.objects.filter(
        ~switches.stopped_now(),
        Q(opens_at__isnull=True) | Q(opens_at__lte=AppNow()),
        Q(closes_at__isnull=True) | Q(closes_at__gt=AppNow() + LEAST),
        state=Offer.State.ACTIVE,
        provider__state=Provider.State.APPROVED,
        group__listed_ok=True,
    )


def fitting(
    query: OfferQuery,
    *,
    needs: Mapping[str, Any] | None = None,
    in_stock: bool = True,
    with_parts: bool = False,
) -> QuerySet[Offer]:
    """Offers on sale that match every filter and, where given, a template's needs.

    in_stock False: whatever the summary, which may be a second old, says about free cards.
    with_parts: parts of cards as well, though nobody named them, for whoever tells them apart.
    Annotated with ``n``: the cards asked for, or the offer's minimum where that is more.
    """
    # As bigint: 4,096 cards times their MiB would overflow an integer.
    cards = Greatest(F("min_gpus"), Value(query.asked_gpus), output_field=IntegerField())
    found = on_sale().annotate(n=Cast(cards, BigIntegerField()))
    wanted = (
        *_plain(query, in_stock),
        *([] if with_parts and query.sharing_mode is None else _shared(query)),
        *_sizes(query),
        *_given(query),
        *_reliable(query),
        *_registry(query),
        *_needed(needs or {}),
    )
    for condition in wanted:
        found = found.filter(condition)
    return found


def _plain(query: OfferQuery, in_stock: bool) -> list[Q]:
    conditions = []
    if query.accelerator:
        conditions.append(Q(group__accelerator__in=query.accelerator))
    if query.vendor is not None:
        conditions.append(Q(group__vendor=query.vendor))
    if query.gpus is not None:
        conditions.append(Q(min_gpus__lte=query.gpus))
        if in_stock:
            conditions.append(Q(group__largest_block__gte=query.gpus))
    if query.max_price is not None:
        conditions.append(Q(**{f"{price_column(query)}__lte": query.max_price}))
    if query.interruptible is not None:
        conditions.append(Q(interruptible_price_micro_h__isnull=not query.interruptible))
    if query.min_cuda is not None:
        conditions.append(Q(group__cuda_max_x100__gte=cuda_x100(query.min_cuda)))
    if query.ssh is not None:
        conditions.append(entered(query.ssh))
    if query.storage is not None:
        conditions.append(Q(group__storage_domain=query.storage))
    for name in ("region", "country", "ownership", "tier", "isolation"):
        value = getattr(query, name)
        if value is not None:
            conditions.append(Q(**{name: value}))
    return conditions


def _reliable(query: OfferQuery) -> list[Q]:
    """Everything is at least 0; what has no figure is at least nothing else."""
    if not query.min_reliability:
        return []
    return [Q(group__reliability_bp__gte=_ceil(query.min_reliability * WHOLE))]


def _given(query: OfferQuery) -> list[Q]:
    """What its owner gives: time, and of the network."""
    conditions = []
    if query.min_hours is not None:
        last = AppNow() + timedelta(seconds=math.ceil(query.min_hours * 3600))
        conditions.append(Q(closes_at__isnull=True) | Q(closes_at__gte=last))
    if query.egress is not None:
        enough = EGRESS[: EGRESS.index(query.egress) + 1]
        conditions.append(Q(group__egress__in=enough))
    return conditions


def _shared(query: OfferQuery) -> list[Q]:
    """Who asks for 8 GPUs of a vendor means cards: a part of one answers only where it, or parts,
    were named."""
    if query.sharing_mode is None and query.accelerator:
        return []
    return [Q(group__sharing_mode=query.sharing_mode or SharingMode.WHOLE.value)]


def has_way_in(offer: Offer) -> bool:
    """Whether renters can get in to machines of the loaded offer: by SSH, terminal and ports."""
    return access.has_gateway() and offer.group.has_relay


def entered(wanted: bool) -> Q:
    """The same, or its opposite, as a condition."""
    if access.has_gateway():
        return Q(group__has_relay=wanted)
    return Q(id__in=[]) if wanted else Q()


def _sizes(query: OfferQuery) -> list[Q]:
    """Sizes of the whole machine are reserved per card: per-card figure times cards."""
    conditions = []
    if query.min_memory_gib is not None:
        conditions.append(Q(group__memory_mib__gte=card_memory_floor(query.min_memory_gib)))
    for value, column, unit in (
        (query.min_vcpus, "vcpus_milli_per_gpu", 1000),
        (query.min_ram_gib, "ram_mib_per_gpu", MIB_PER_GIB),
        (query.min_disk_gib, "disk_mib_per_gpu", MIB_PER_GIB),
    ):
        if value is not None:
            machine = ExpressionWrapper(F("n") * F(f"group__{column}"), BigIntegerField())
            conditions.append(Q(GreaterThanOrEqual(machine, _ceil(value * unit))))
    return conditions


def card_memory_floor(gib: Decimal) -> int:
    """The least MiB that a card shown with ``gib`` GiB may report (shown figures are rounded)."""
    return max(0, _ceil(gib) * MIB_PER_GIB - MIB_PER_GIB // 2)


def _ceil(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_CEILING))


def _registry(query: OfferQuery) -> list[Q]:
    if query.interconnect is None:
        return []
    wanted = None if query.interconnect == "none" else query.interconnect
    slugs = [row.slug for row in provisioner.accelerators() if row.interconnect == wanted]
    return [Q(group__accelerator__in=slugs)]


def _needed(needs: Mapping[str, Any]) -> list[Q]:
    conditions = []
    if needs.get("vendor"):
        conditions.append(Q(group__vendor__in=needs["vendor"]))
    if needs.get("toolkit"):
        slugs = [row.slug for row in provisioner.accelerators() if row.toolkit == needs["toolkit"]]
        conditions.append(Q(group__accelerator__in=slugs))
    if needs.get("min_memory_gib"):
        floor = card_memory_floor(Decimal(needs["min_memory_gib"]))
        conditions.append(Q(group__memory_mib__gte=floor))
    if needs.get("min_cuda"):
        conditions.append(Q(group__cuda_max_x100__gte=cuda_x100(needs["min_cuda"])))
    return conditions
