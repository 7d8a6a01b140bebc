"""What a card is asked for on the market, and what an owner starts from when working out a price.

Asked prices stand in the public catalogue one by one. A summary still shows none as the market's:
below three offers of others, or two other owners, there is none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Aggregate, BigIntegerField, Count, Q

from kernel.errors import InvalidRequest
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.catalog.fees import ALL, fee_of
from marketplace.catalog.stock import on_sale
from marketplace.models import Offer, Provider

_LEAST_OFFERS: Final = 3
_LEAST_OWNERS: Final = 2


@dataclass(frozen=True)
class MarketView:
    """Prices per GPU-hour asked for a card now, of every offer on sale: each is a price that is
    asked (nearest rank), and an offer counts once however many cards it has."""

    offers: int
    p10_micro: int
    median_micro: int
    p90_micro: int


@dataclass(frozen=True)
class StartView:
    """price_micro: of the owner's own offer; None: no offer was named, or it has no price."""

    offer: Offer | None
    accelerator: str | None
    price_micro: int | None
    fee_bps: int
    market: MarketView | None


class Percentile(Aggregate):
    """The lowest price that ``share`` of all prices do not exceed: a whole number, no float."""

    function = "PERCENTILE_DISC"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = BigIntegerField()

    def __init__(self, expression: str, *, share: str) -> None:
        super().__init__(expression, share=share)


def starting_point(
    *, acting: Principal, offer_id: str | None = None, accelerator: str | None = None
) -> StartView:
    """What the platform knows about an own offer, or about a card type; one of them at most.

    NotFound: no such offer of the acting organization. InvalidRequest: both are given.
    """
    offer = None
    if offer_id is not None:
        if accelerator is not None:
            raise InvalidRequest({"accelerator": ["is the offer's; leave one of them out"]})
        rows = Offer.objects.select_related("group", "provider", "datacenter")
        offer = get_visible(rows, acting, offer_id)
        accelerator = offer.group.accelerator
    return StartView(
        offer=offer,
        accelerator=accelerator,
        price_micro=(offer.price_micro_h or None) if offer else None,
        fee_bps=fee_bps_of(acting, accelerator=accelerator or ALL),
        market=asked(accelerator, besides=acting.org.id) if accelerator else None,
    )


def asked(accelerator: str, *, besides: UUID) -> MarketView | None:
    """The market of a card type, as the organization ``besides`` may see it; one statement."""
    return asked_for([accelerator], besides=besides)[accelerator]


def asked_for(accelerators: Collection[str], *, besides: UUID) -> dict[str, MarketView | None]:
    """The same of several card types, still in one statement."""
    others = ~Q(provider__organization=besides)
    rows = (
        on_sale()
        .filter(group__accelerator__in=accelerators)
        .order_by()
        .values("group__accelerator")
        .annotate(
            offers=Count("id"),
            others=Count("id", filter=others),
            owners=Count("provider", filter=others, distinct=True),
            p10=Percentile("price_micro_h", share="0.1"),
            median=Percentile("price_micro_h", share="0.5"),
            p90=Percentile("price_micro_h", share="0.9"),
        )
    )
    found = {row["group__accelerator"]: dict(row) for row in rows}
    return {slug: _market(found.get(slug)) for slug in accelerators}


def _market(row: dict[str, Any] | None) -> MarketView | None:
    """None below the least of others: a summary of few would show one's price as the market's."""
    if row is None or row["others"] < _LEAST_OFFERS or row["owners"] < _LEAST_OWNERS:
        return None
    return MarketView(row["offers"], row["p10"], row["median"], row["p90"])


def fee_bps_of(acting: Principal, provider: Provider | None = None, accelerator: str = ALL) -> int:
    """What the platform keeps of this owner's prices of a card; everybody's for whoever has not
    applied. Cards of the platform itself pay none away. provider: theirs, where it is loaded."""
    provider = provider or visible(Provider, acting).first()
    if provider is not None and provider.ownership == Provider.Ownership.OWNED:
        return 0
    return fee_of(provider, accelerator)
