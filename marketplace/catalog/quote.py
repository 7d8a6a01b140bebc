"""Quotes: an immutable all-in price for ten minutes, good for one rental.

A quote fixes the price, not the cards: somebody else may take them before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, QuerySet

from billing import facade as billing
from billing.facade import tax as taxes
from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId
from kernel.ids import parse as parse_id
from kernel.money import CURRENCY, format_micro, parse_micro
from kernel.text import rfc3339
from marketplace.accounts.access import Principal, get_visible
from marketplace.catalog.fees import fee_of
from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.opening import contract_end
from marketplace.catalog.price import (
    SECONDS_PER_HOUR,
    TRAFFIC,
    Price,
    components,
    order_price,
    volume_micro_h,
)
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.relax import no_capacity, offer_taken
from marketplace.catalog.search import on_sale_now, with_stock
from marketplace.catalog.stock import fitting, price_column
from marketplace.catalog.taxes import describe_tax
from marketplace.models import Offer, PriceVersion, Provider, Quote
from provisioner.contracts import StorageDomain

# Long enough to read and decide; longer would let a price survive a provider's change of mind.
LIFETIME: Final = timedelta(minutes=10)
# The local disk of an order that names none: room for a large image and a model. It is included
# with the cards; more can be asked for up to what the offer includes.
DEFAULT_DISK_GIB: Final = 50
# Beyond ten years a date says nothing.
_HORIZON: Final = timedelta(days=3650)


def create_quote(
    *,
    acting: Principal,
    offer_id: str,
    gpus: int,
    disk_gib: int | None = None,
    volume_gib: int = 0,
    interruptible: bool = False,
) -> Quote:
    """A quote for a named offer, with a new volume of ``volume_gib``, if any, at the price of its
    data centre; joins the caller's transaction.

    Raises NotFound, InvalidRequest (gpus, disk_gib, volume, interruptible), Refusal offer_taken
    with alternatives.
    """
    offer = rentable(offer_id)
    if gpus < offer.min_gpus:
        raise InvalidRequest({"gpus": [f"this offer is rented from {offer.min_gpus} GPUs"]})
    if not on_sale_now(offer) or offer.group.largest_block < gpus:
        raise offer_taken(offer, gpus, interruptible=interruptible)
    disk = disk_for([offer], gpus, disk_gib)
    return _store(acting, offer, gpus, disk, volume_gib, interruptible=interruptible)


def quote_requirement(
    *, acting: Principal, query: OfferQuery, disk_gib: int | None = None, volume_gib: int = 0
) -> Quote:
    """A quote for the offer that fits with the cheapest cards; raises Refusal no_capacity with
    relaxations."""
    wanted = with_disk(query, disk_gib)
    fit = candidates(wanted)
    if volume_gib:
        fit = fit.exclude(group__storage_domain=StorageDomain.NONE)
    offer = fit.first()
    if offer is None:
        raise no_capacity(wanted)
    gpus = query.asked_gpus
    disk = disk_for([offer], gpus, disk_gib)
    return _store(acting, offer, gpus, disk, volume_gib, interruptible=bool(query.interruptible))


def candidates(
    query: OfferQuery, needs: Mapping[str, Any] | None = None, *, in_stock: bool = True
) -> QuerySet[Offer]:
    """Loaded offers that would take the order, cheapest first; ``in_stock`` as the summary says."""
    found = fitting(query, needs=needs, in_stock=in_stock)
    if in_stock:
        found = found.filter(group__largest_block__gte=query.asked_gpus)
    return with_stock(found).order_by(price_column(query), "id")


def with_disk(query: OfferQuery, disk_gib: int | None) -> OfferQuery:
    """The question with the ordered disk as one more thing that must fit."""
    if disk_gib is None or (query.min_disk_gib or 0) >= disk_gib:
        return query
    return replace(query, min_disk_gib=Decimal(disk_gib))


def rentable(offer_id: str) -> Offer:
    """The loaded offer behind a public id; raises NotFound for drafts and unknown ids."""
    try:
        offers = with_stock(Offer.objects.exclude(state=Offer.State.DRAFT))
        return offers.get(id=parse_id("offer", offer_id))
    except (BadId, Offer.DoesNotExist) as error:
        raise NotFound("offer") from error


def included_disk_gib(offer: Offer, gpus: int) -> int:
    """The local disk reserved with the cards, in whole GiB."""
    return int(offer.group.disk_mib_per_gpu * gpus // MIB_PER_GIB)


def disk_for(offers: list[Offer], gpus: int, asked: int | None) -> int:
    """The disk of the order in GiB: as asked where every offer includes it, else the default."""
    most = min(included_disk_gib(offer, gpus) for offer in offers)
    if asked is None:
        return min(DEFAULT_DISK_GIB, most)
    if asked > most:
        raise InvalidRequest(
            {"disk_gib": [f"at most {most} GiB are included with {gpus} GPU of this offer"]}
        )
    return asked


def price_of(
    offer: Offer, gpus: int, version: PriceVersion | None = None, *, interruptible: bool = False
) -> Price:
    """The price of an order on a loaded offer, or as a version has it, with the owner's share as
    agreed today. Raises InvalidRequest where no interruptible use is offered."""
    provider, prices = offer.provider, version or offer
    per_gpu = prices.interruptible_price_micro_h if interruptible else prices.price_micro_h
    if per_gpu is None:
        raise InvalidRequest({"interruptible": ["the owner does not offer this offer so"]})
    return order_price(
        per_gpu_micro_h=per_gpu,
        gpus=gpus,
        fee_bps=fee_of(provider, offer.group.accelerator),
        owned=provider.ownership == Provider.Ownership.OWNED,
    )


def _store(
    acting: Principal,
    offer: Offer,
    gpus: int,
    disk_gib: int,
    volume_gib: int,
    *,
    interruptible: bool,
) -> Quote:
    if volume_gib and offer.group.storage_domain == StorageDomain.NONE:
        raise InvalidRequest({"volume": ["this offer has no storage for volumes"]})
    monthly = offer.datacenter.disk_price_micro_gib_month
    version = PriceVersion.objects.filter(offer=offer).latest("number")
    price = price_of(offer, gpus, version, interruptible=interruptible)
    return Quote.objects.create(
        organization=acting.org,
        offer=offer,
        price=version,
        gpus=gpus,
        disk_gib=disk_gib,
        interruptible=interruptible,
        price_micro_h=price.total_micro_h,
        provider_micro_h=price.provider_micro_h,
        volume_gib=volume_gib,
        disk_price_micro_gib_month=monthly,
        contract_ends_at=contract_end(offer),
        components=components(
            price, disk_gib=disk_gib, volume_gib=volume_gib, micro_gib_month=monthly
        ),
        expires_at=now() + LIFETIME,
    )


def get_quote(acting: Principal, quote_id: str) -> Quote:
    """The caller's quote with its loaded offer; raises NotFound."""
    rows = Quote.objects.select_related(
        "offer__group", "offer__datacenter", "offer__provider", "price"
    )
    return get_visible(rows, acting, quote_id)


def open_quote(acting: Principal, quote_id: str) -> Quote:
    """The quote with its loaded offer, still good; raises NotFound, quote_used, quote_expired."""
    quote = get_quote(acting, quote_id)
    if quote.used_at is not None:
        raise used()
    if quote.expires_at <= now():
        raise Refusal(
            "quote_expired",
            "The quote was good for ten minutes and has expired. Nothing was rented. Ask for a "
            "new one with POST /quotes.",
            offer=quote.offer.public_id,
            expired_at=rfc3339(quote.expires_at),
        )
    return quote


def use(quote: Quote) -> None:
    """Mark the quote used, in the renting transaction; raises quote_used when another was first."""
    free = Quote.objects.filter(id=quote.id, used_at=None)
    if not free.update(used_at=AppNow(), version=F("version") + 1):
        raise used()


def used() -> Refusal:
    return Refusal(
        "quote_used",
        "This quote was used for a rental before; a quote is good for one. Ask for a new one "
        "with POST /quotes.",
    )


def describe(quote: Quote) -> dict[str, Any]:
    """The quote as the API shows it; the date of funds end is worked out from today's balance."""
    balance = billing.balance(org_ref=quote.organization_id)
    disk = volume_micro_h(quote.volume_gib, quote.disk_price_micro_gib_month)
    terms = taxes.tax_terms(org_ref=quote.organization_id)
    tax = describe_tax(terms, per_hour_micro=quote.price_micro_h + disk)
    burn = balance.burn_micro_h + quote.price_micro_h + disk + parse_micro(tax["per_hour"] or "0")
    seconds = max(0, balance.spendable_micro) * SECONDS_PER_HOUR // burn
    lasts = timedelta(seconds=seconds) if seconds < _HORIZON.total_seconds() else None
    return {
        "id": quote.public_id,
        "offer": quote.offer.public_id,
        "accelerator": quote.offer.group.accelerator,
        "region": quote.offer.region,
        "gpus": quote.gpus,
        "disk_gib": quote.disk_gib,
        "volume_gib": quote.volume_gib,
        "components": quote.components,
        "interruptible": quote.interruptible,
        "price_per_gpu_hour": format_micro(quote.price_micro_h // quote.gpus),
        "total_per_hour": format_micro(quote.price_micro_h + disk),
        "stopped_per_day": format_micro(24 * disk),
        "currency": CURRENCY,
        "tax": tax,
        "traffic": TRAFFIC,
        "contract_ends_at": rfc3339(quote.contract_ends_at),
        "available_until": rfc3339(quote.offer.closes_at),
        "funds_end_at": rfc3339(now() + lasts) if lasts is not None else None,
        "created_at": rfc3339(quote.created_at),
        "expires_at": rfc3339(quote.expires_at),
        "version": quote.version,
    }
