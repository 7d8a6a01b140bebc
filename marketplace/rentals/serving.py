"""Which offers may serve a rental that exists. Reads only.

One that had cards is served by the same kind of card of its owner in its data centre; one that
waits and never had any, by what fits its question at the price it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from django.db.models import QuerySet

from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.query import OfferQuery, parse_requirement
from marketplace.catalog.quote import candidates
from marketplace.catalog.registry import vocabulary
from marketplace.catalog.search import with_stock
from marketplace.catalog.stock import entered, on_sale
from marketplace.models import Offer, Rental
from marketplace.rentals import tenure, way_in
from marketplace.rentals.state import QUEUED
from marketplace.volumes.place import Place
from provisioner.contracts import NoCandidate, PlacementRequest

# The planner is asked about this many groups at most: its own limit is 200 nodes.
MAX_OFFERS: Final = 50


def offers_for(rental: Rental, place: Place) -> dict[UUID, Offer]:
    """The offers that may serve it, by group, best first; raises NoCandidate without any.

    ``place``: where its volumes bind it to.
    """
    ssh = way_in.asked(rental, place)
    if rental.wanted is not None and rental.quote is None:
        query = replace(query_of(rental.wanted), max_price=rental.wanted["max_price_micro_h"])
        query = replace(query, ssh=ssh or query.ssh)
        query = tenure.asked(query, expires_at=tenure.end_of(rental))
        fit = candidates(query, rental.wanted["needs"], in_stock=False)
        found = place.among(fit)[:MAX_OFFERS]
    else:
        same = place.among(alike(rental, ssh=ssh))
        found = with_stock(same).order_by("price_micro_h", "id")[:MAX_OFFERS]
    offers = sorted(found, key=lambda offer: offer.id != rental.offer_id)
    if not offers:
        raise NoCandidate
    return {offer.group_id: offer for offer in offers}


def alike(rental: Rental, *, ssh: bool) -> QuerySet[Offer]:
    """Offers of its kind of card by its owner in its data centre; ``ssh``: with a way in."""
    group = rental.offer.group
    same = on_sale().filter(
        provider_id=rental.offer.provider_id,
        datacenter_id=rental.offer.datacenter_id,
        group__accelerator=group.accelerator,
        group__memory_mib=group.memory_mib,
    )
    return same.filter(entered(True)) if ssh else same


def request_of(
    rental: Rental, offers: Mapping[UUID, Offer], place: Place, *, barred: Sequence[UUID] = ()
) -> PlacementRequest:
    """What the planner is asked for it; ``barred``: nodes besides those that failed it."""
    return PlacementRequest(
        group_ids=tuple(offers),
        gpus=rental.gpus,
        disk_mib=rental.disk_gib * MIB_PER_GIB,
        tenant_ref=rental.organization_id,
        exclude_nodes=(*(rental.tried_nodes or ()), *barred),
        cluster_ids=place.cluster_ids,
        node_ids=place.node_ids,
        needs_way_in=way_in.asked(rental, place),
    )


def promised(*, besides: Rental | None = None) -> tuple[UUID, ...]:
    """Nodes where room is being made for orders that wait: nobody else is placed there. An order
    shares the node that it was promised itself."""
    rows = Rental.objects.filter(state=QUEUED, promised_node__isnull=False)
    if besides is not None and besides.promised_node is not None:
        rows = rows.exclude(promised_node=besides.promised_node)
    nodes = rows.values_list("promised_node", flat=True)
    return tuple({node for node in nodes if node is not None})


def query_of(wanted: Mapping[str, Any]) -> OfferQuery:
    """What a queued rental asked for."""
    return parse_requirement(wanted["requirement"], vocabulary())
