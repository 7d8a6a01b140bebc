"""Which offers may serve a rental that exists. Reads only.

One that had cards is served by the same kind of card of its owner in its data centre; one that
waits and never had any, by what fits its question at the price it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from marketplace.catalog.query import OfferQuery, parse_requirement
from marketplace.catalog.quote import candidates
from marketplace.catalog.registry import vocabulary
from marketplace.catalog.search import with_stock
from marketplace.catalog.stock import on_sale
from marketplace.models import Offer, Rental
from marketplace.volumes.place import Place
from provisioner.contracts import NoCandidate

# The planner is asked about this many groups at most: its own limit is 200 nodes.
MAX_OFFERS: Final = 50


def offers_for(rental: Rental, place: Place) -> dict[UUID, Offer]:
    """The offers that may serve it, by group, best first; raises NoCandidate without any.

    ``place``: where its volumes bind it to.
    """
    if rental.wanted is not None and rental.quote is None:
        query = replace(query_of(rental.wanted), max_price=rental.wanted["max_price_micro_h"])
        fit = candidates(query, rental.wanted["needs"], in_stock=False)
        found = place.among(fit)[:MAX_OFFERS]
    else:
        group = rental.offer.group
        same = on_sale().filter(
            provider_id=rental.offer.provider_id,
            datacenter_id=rental.offer.datacenter_id,
            group__accelerator=group.accelerator,
            group__memory_mib=group.memory_mib,
        )
        found = with_stock(place.among(same)).order_by("price_micro_h", "id")[:MAX_OFFERS]
    offers = sorted(found, key=lambda offer: offer.id != rental.offer_id)
    if not offers:
        raise NoCandidate
    return {offer.group_id: offer for offer in offers}


def query_of(wanted: Mapping[str, Any]) -> OfferQuery:
    """What a queued rental asked for."""
    return parse_requirement(wanted["requirement"], vocabulary())
