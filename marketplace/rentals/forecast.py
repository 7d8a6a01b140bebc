"""What a stopped rental can expect: cards that are free for it now, and what of its data is kept.

A forecast, not a promise: somebody else may take the cards before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Max, Sum

from marketplace.catalog.stock import on_sale
from marketplace.models import Rental
from marketplace.rentals.state import STOPPED, STOPPING


def restart_forecasts(
    rentals: Sequence[Rental], *, as_if_stopped: bool = False
) -> dict[UUID, dict[str, Any]]:
    """By rental, for those that are stopped or stopping; one query per kind of card and place.

    as_if_stopped: for all of them, as somebody who is about to stop one wants to know.
    """
    known: dict[tuple[Any, ...], dict[str, int]] = {}
    found = {}
    for rental in rentals:
        if not as_if_stopped and rental.state not in (STOPPED, STOPPING):
            continue
        offer = rental.offer
        place = (offer.provider_id, offer.datacenter_id, rental.accelerator)
        if place not in known:
            known[place] = _free(*place)
        found[rental.id] = _forecast(rental, **known[place])
    return found


def _free(provider: UUID, datacenter: UUID, accelerator: str) -> dict[str, int]:
    there = on_sale().filter(
        provider_id=provider, datacenter_id=datacenter, group__accelerator=accelerator
    )
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
        "data": "not_kept",
        "text": f"{cards} The local disk of the machine is not kept.",
    }
