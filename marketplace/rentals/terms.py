"""The price terms of a rental as billing takes them."""

from __future__ import annotations

from billing.contracts import PriceTerms
from marketplace.catalog.registry import by_slug
from marketplace.models import Offer, Rental


def terms_of(rental: Rental, offer: Offer) -> PriceTerms:
    """From the rental's own snapshot; ``offer`` with its data centre names owner and place."""
    card = by_slug().get(rental.accelerator)
    name = card.name if card else rental.accelerator
    return PriceTerms(
        currency=rental.currency,
        gpus=rental.gpus,
        price_micro_h=rental.price_micro_h,
        provider_micro_h=rental.provider_micro_h,
        provider_ref=offer.provider_id,
        accelerator=rental.accelerator,
        description=f"{rental.gpus} x {name}, {offer.datacenter.name}",
    )
