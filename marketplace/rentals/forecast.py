"""What a stopped rental can expect: cards that are free for it now, and what of its data is kept.

A forecast, not a promise: somebody else may take the cards before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Max, Sum

from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.stock import entered, on_sale
from marketplace.models import Rental
from marketplace.rentals.serving import offers_for
from marketplace.rentals.state import STOPPED, STOPPING
from marketplace.rentals.way_in import needed_by
from marketplace.volumes.forecast import (
    KEPT,
    NOT_KEPT,
    SAME_CLUSTER,
    SAME_DATACENTER,
    SAME_NODE,
    Forecast,
    forecast,
    stranded,
)
from marketplace.volumes.later import places
from marketplace.volumes.place import Place
from provisioner import facade as provisioner
from provisioner.contracts import NoCandidate, PlacementRequest


def restart_forecasts(
    rentals: Sequence[Rental], *, as_if_stopped: bool = False
) -> dict[UUID, dict[str, Any]]:
    """By rental, for those that are stopped or stopping; one query per kind of card and place.

    as_if_stopped: for all of them, as somebody who is about to stop one wants to know.
    """
    known: dict[tuple[Any, ...], dict[str, int]] = {}
    found = {}
    wanted = [rental for rental in rentals if as_if_stopped or rental.state in (STOPPED, STOPPING)]
    bound = places([rental.id for rental in wanted]) if wanted else {}
    for rental in wanted:
        offer = rental.offer
        ssh = needed_by(rental)
        place = (offer.provider_id, offer.datacenter_id, rental.accelerator, ssh)
        if rental.id in bound:
            found[rental.id] = _with_volumes(rental, bound[rental.id])
            continue
        if place not in known:
            known[place] = _free(*place)
        found[rental.id] = _forecast(rental, **known[place])
    return found


def _with_volumes(rental: Rental, place: Place | None) -> dict[str, Any]:
    """Only cards that its data can be reached from help: the planner is asked as a start does."""
    if place is None:
        return _told(stranded(), 0, 0)
    try:
        offers = offers_for(rental, place)
    except NoCandidate:
        free = []
    else:
        plan = provisioner.plan(
            PlacementRequest(
                group_ids=tuple(offers),
                gpus=1,  # how many are free at all, not only where there are enough
                disk_mib=rental.disk_gib * MIB_PER_GIB,
                tenant_ref=rental.organization_id,
                cluster_ids=place.cluster_ids,
                node_ids=place.node_ids,
            )
        )
        free = [candidate.free for candidate in plan.candidates]
    block = max(free, default=0)
    where = SAME_NODE if place.node_ids else SAME_CLUSTER
    return _told(forecast(where, gpus=rental.gpus, block=block), sum(free), block)


def _told(said: Forecast, free: int, block: int) -> dict[str, Any]:
    return {
        "gpus_free": free,
        "largest_block": block,
        "would_start_now": said.starts_now,
        "data": KEPT,
        "where": said.where,
        "text": said.text,
    }


def _free(provider: UUID, datacenter: UUID, accelerator: str, ssh: bool) -> dict[str, int]:
    """ssh: only where somebody can get in."""
    there = on_sale().filter(
        provider_id=provider, datacenter_id=datacenter, group__accelerator=accelerator
    )
    if ssh:
        there = there.filter(entered(True))
    figures = there.aggregate(free=Sum("group__slots_free"), block=Max("group__largest_block"))
    return {name: value or 0 for name, value in figures.items()}


def _forecast(rental: Rental, *, free: int, block: int) -> dict[str, Any]:
    enough = block >= rental.gpus
    place = rental.offer.datacenter.name
    cards = (
        f"{free} such cards are free in {place} now, so it would start at once."
        if enough
        else f"No {rental.gpus} such cards are free together in {place} now: starting would have "
        "to wait in the queue."
    )
    return {
        "gpus_free": free,
        "largest_block": block,
        "would_start_now": enough,
        "data": NOT_KEPT,
        "where": SAME_DATACENTER,
        "text": f"{cards} The local disk of the machine is not kept.",
    }
