"""The public list of offers: strict filters, stable order, opaque cursors, one query a page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import OrderBy

from kernel.clock import AppNow, now
from kernel.errors import NotFound, Refusal
from kernel.ids import BadId
from kernel.ids import parse as parse_id
from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.accounts import switches
from marketplace.catalog.availability import LEAST
from marketplace.catalog.needs import MIB_PER_GIB, whole_gib
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.query import parse as parse_query
from marketplace.catalog.registry import by_slug, vocabulary
from marketplace.catalog.stock import WHOLE, fitting, has_way_in, price_column
from marketplace.models import Offer, Provider
from provisioner.contracts import Accelerator
from provisioner.contracts.homogeneity import SharingMode
from provisioner.facade.homogeneity import fingerprint

MAX_LIMIT: Final = 200
# Orders by what was measured: the most first, and what was not measured last.
_MEASURED: Final = {"reliability": "group__reliability_bp", "performance": "group__score"}
_ALTERNATIVES: Final = 5  # enough to choose from, few enough to read in an error


@dataclass(frozen=True)
class OfferRow:
    """An offer as shown, and the cards its figures are worked out for."""

    offer: Offer
    gpus: int
    rank_by: str
    interruptible: bool = False  # the price shown is that of rentals that may be interrupted

    @property
    def price_micro_h(self) -> int:
        """Per GPU, as it holds for the question."""
        own = self.offer.interruptible_price_micro_h if self.interruptible else None
        return self.offer.price_micro_h if own is None else own


@dataclass(frozen=True)
class OfferPage:
    rows: list[OfferRow]
    next_cursor: str | None


def parse(params: Mapping[str, Sequence[str]]) -> OfferQuery:
    """A query string (without cursor and limit) as a query; raises Refusal (400)."""
    return parse_query(params, vocabulary())


def search(query: OfferQuery, *, cursor: str | None = None, limit: int = 50) -> OfferPage:
    """One page of matching offers; raises Refusal invalid_cursor (400)."""
    found = with_stock(fitting(query))
    if cursor is not None:
        found = found.filter(_after(query, cursor))
    ordered = found.order_by(*_order(query), "id")
    offers = list(ordered[: limit + 1])
    more = len(offers) > limit
    rows = [row_of(offer, query) for offer in offers[:limit]]
    return OfferPage(rows, _cursor(query, rows[-1]) if more else None)


def _order(query: OfferQuery) -> list[str | OrderBy]:
    column = price_column(query)
    if query.order in _MEASURED:
        return [F(_MEASURED[query.order]).desc(nulls_last=True)]
    return [column if query.order == "price" else f"-{column}"]


def row_of(offer: Offer, query: OfferQuery) -> OfferRow:
    """The offer as the question wants it shown."""
    return OfferRow(offer, shown_gpus(offer, query), query.order, bool(query.interruptible))


def with_stock(found: QuerySet[Offer]) -> QuerySet[Offer]:
    """The same offers with everything a row shows, in the same query. ``asked_at``: the time at
    which it was asked, for what depends on it."""
    rows = found.select_related("group", "datacenter", "provider")
    return rows.annotate(asked_at=AppNow())


def shown_gpus(offer: Offer, query: OfferQuery) -> int:
    """The cards that figures are worked out for: those asked for, else the offer's minimum."""
    return query.gpus or max(1, offer.min_gpus)


def get_offer(public_id: str) -> OfferRow:
    """An offer that is or was on sale; raises NotFound for drafts and unknown ids."""
    try:
        offers = with_stock(Offer.objects.exclude(state=Offer.State.DRAFT))
        offer = offers.get(id=parse_id("offer", public_id))
    except (BadId, Offer.DoesNotExist) as error:
        raise NotFound("offer") from error
    return OfferRow(offer, max(1, offer.min_gpus), "price")


def get_offers(public_ids: Sequence[str]) -> tuple[list[OfferRow], list[str]]:
    """Several at once, in the order asked; and the ids that are of none, or of drafts."""
    wanted: dict[uuid.UUID, str] = {}
    gone = []
    for text in public_ids:
        try:
            wanted[parse_id("offer", text)] = text
        except BadId:
            gone.append(text)
    found = with_stock(Offer.objects.exclude(state=Offer.State.DRAFT)).in_bulk(list(wanted))
    gone += [text for key, text in wanted.items() if key not in found]
    rows = [found[key] for key in wanted if key in found]
    return [OfferRow(offer, max(1, offer.min_gpus), "price") for offer in rows], gone


def alternatives(query: OfferQuery, *, besides: uuid.UUID | None = None) -> list[dict[str, Any]]:
    """A few offers that would take the order now, cheapest first."""
    found = with_stock(fitting(query).filter(group__largest_block__gte=query.asked_gpus))
    if besides is not None:
        found = found.exclude(id=besides)
    registry = by_slug()
    return [
        describe(row_of(offer, query), registry)
        for offer in found.order_by(price_column(query), "id")[:_ALTERNATIVES]
    ]


def describe(row: OfferRow, registry: Mapping[str, Accelerator]) -> dict[str, Any]:
    """The row as the contract names it. Null: not measured."""
    offer, group, gpus = row.offer, row.offer.group, row.gpus
    sold = on_sale_now(offer)
    card = registry.get(group.accelerator)
    return {
        "id": offer.public_id,
        "accelerator": group.accelerator,
        "vendor": group.vendor,
        "memory_gib": whole_gib(group.memory_mib),
        "verified": group.verified,
        "sharing_mode": group.sharing_mode,
        "partition": card.partition if card else None,
        "fingerprint": fingerprint(group),
        "gpus": gpus,
        "min_gpus": offer.min_gpus,
        "gpus_available": group.slots_free if sold else 0,
        "largest_block": group.largest_block if sold else 0,
        "price_per_gpu_hour": format_micro(row.price_micro_h),
        "all_in_per_hour": format_micro(row.price_micro_h * gpus),
        "disk_price": format_micro(offer.datacenter.disk_price_micro_gib_month),
        "currency": CURRENCY,
        "datacenter": offer.datacenter.public_id,
        "region": offer.region,
        "country": offer.country,
        "ownership": offer.ownership,
        "tier": offer.tier,
        "isolation": offer.isolation,
        "network_policy": group.network_policy or None,
        "ssh": has_way_in(offer),
        "interruptible": offer.interruptible_price_micro_h is not None,
        "interruptible_price_per_gpu_hour": interruptible_price(offer),
        "vcpus": amount(group.vcpus_milli_per_gpu * gpus, 1000),
        "ram_gib": amount(group.ram_mib_per_gpu * gpus, MIB_PER_GIB),
        "disk_gib": amount(group.disk_mib_per_gpu * gpus, MIB_PER_GIB),
        "disk_kind": group.disk_kind or None,
        "disk_read_mib_s": group.disk_read_mib_s,
        "disk_write_mib_s": group.disk_write_mib_s,
        "storage": group.storage_domain,
        "driver": group.driver or None,
        "cuda_max": group.cuda_max or None,
        "net_down_mbps": group.net_down_mbps,
        "net_up_mbps": None,
        "interconnect": card.interconnect if card else None,
        "egress": group.egress,
        "bandwidth_mbps": group.bandwidth_mbps,
        "available_until": rfc3339(offer.closes_at),
        "reliability": reliability(offer),
        "benchmark": group.score,
        "why_here": why_here(row),
        "state": offer.state,
        "reason": offer.reason or None,
        "actions": [],
        "created_at": rfc3339(offer.created_at),
        "version": offer.version,
    }


def interruptible_price(offer: Offer) -> str | None:
    """What a GPU-hour costs where the rental may be interrupted; None: not offered."""
    price = offer.interruptible_price_micro_h
    return None if price is None else format_micro(price)


def reliability(offer: Offer) -> dict[str, Any]:
    """The share of placements that the loaded offer's host kept; null below the least sample."""
    value = reliability_of(offer)
    sample = offer.group.reliability_sample
    return {"value": None if value is None else float(value), "sample": sample}


def reliability_of(offer: Offer) -> Decimal | None:
    """The same figure, exact: 0 to 1 in ten-thousandths."""
    kept: int | None = offer.group.reliability_bp
    return None if kept is None else Decimal(kept) / WHOLE


def on_sale_now(offer: Offer) -> bool:
    """Whether the loaded offer can be rented at all."""
    approved = offer.provider.state == Provider.State.APPROVED
    listed = bool(offer.group.listed_ok) and is_open(offer)
    if not (offer.state == Offer.State.ACTIVE and approved and listed):
        return False
    return offer.group.cluster_id not in switches.stopped_clusters()


def is_open(offer: Offer) -> bool:
    """Whether this is a time in which its owner lets it, and will for a while."""
    at = getattr(offer, "asked_at", None) or now()
    opened = offer.opens_at is None or offer.opens_at <= at
    return opened and (offer.closes_at is None or offer.closes_at > at + LEAST)


def hours_left(offer: Offer) -> Decimal | None:
    """The hours that its owner leaves the cards to whoever rents now, in hundredths, rounded down;
    None: no end is known."""
    if offer.closes_at is None:
        return None
    left = int((offer.closes_at - now()).total_seconds())
    return max(Decimal(0), Decimal(left // 36) / 100)


def amount(value: int, unit: int) -> int | float:
    """``value`` in ``unit``s: whole where it is whole, else rounded down to three places."""
    whole, rest = divmod(value, unit)
    return whole if not rest else value * 1000 // unit / 1000


def why_here(row: OfferRow) -> str:
    """Why the offer stands where it stands, in one sentence of facts."""
    group = row.offer.group
    if row.rank_by in ("price", "-price"):
        how = "lowest first" if row.rank_by == "price" else "highest first"
        rank = f"Ranked by price, {how}: {format_micro(row.price_micro_h)} {CURRENCY}"
        rank += " per GPU-hour; equal prices by id."
    elif row.rank_by == "reliability":
        rank = f"Ranked by reliability, highest first: {_reliable(row.offer)}; equal ones by id."
    else:
        rank = "Ranked by its machine's benchmark, highest first: "
        rank += f"{group.score:g}." if group.score is not None else "not measured, so last."
    what = "GPUs" if group.sharing_mode == SharingMode.WHOLE else "parts of GPUs"
    stock = f"{group.slots_free} of {group.slots_total} {what} free"
    return f"{rank} {stock}, at most {group.largest_block} on one node."


def _reliable(offer: Offer) -> str:
    value, sample = reliability_of(offer), offer.group.reliability_sample
    if value is None:
        return f"too few placements to say ({sample}), so behind those with a figure"
    return f"{value} of {sample} placements in 30 days were kept"


def _cursor(query: OfferQuery, last: OfferRow) -> str:
    keys = {"reliability": last.offer.group.reliability_bp, "performance": last.offer.group.score}
    body = [_question(query), keys.get(query.order, last.price_micro_h), str(last.offer.id)]
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")


def _after(query: OfferQuery, cursor: str) -> Q:
    """The condition "behind the cursor's offer"; inserts before it cannot shift a page."""
    refusal = Refusal(
        "invalid_cursor",
        "The cursor is not one of ours, or belongs to other filters. Start again without it.",
    )
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        question, key, text = json.loads(raw)
        last = uuid.UUID(text)
    except (binascii.Error, UnicodeError, ValueError, TypeError, AttributeError) as error:
        raise refusal from error
    measured = _MEASURED.get(query.order)
    number = type(key) is int or (query.order == "performance" and type(key) is float)
    well = abs(key) < 2**63 if number else measured is not None and key is None
    if question != _question(query) or not well:
        raise refusal
    column = measured or price_column(query)
    null = Q(**{f"{column}__isnull": True})
    if key is None:
        return null & Q(id__gt=last)
    beyond = Q(**{f"{column}__{'gt' if query.order == 'price' else 'lt'}": key})
    later = beyond | Q(**{column: key}, id__gt=last)
    return later | null if measured else later


def _question(query: OfferQuery) -> str:
    """A digest of filters and order: a cursor is good for the question it came from."""
    return hashlib.sha256(repr(query).encode()).hexdigest()[:16]
