"""For how long cards are a renter's, and with what of the network: what an order asks for.

An order that names its end is placed only where nothing that is announced comes before it; one
without an end, where no end is known. Who picked an offer by itself saw until when it is for rent:
it may be taken without an end, and lasts until then. What was agreed at the placement stays,
whatever its owner decides later about new quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db.models import Q

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.text import rfc3339
from marketplace.catalog.query import EGRESS, MAX_HOURS, OfferQuery
from marketplace.models import Maintenance, Quote, Rental

_HUNDREDTH: Final = 36  # seconds; hours are asked for in hundredths


def asked(query: OfferQuery, *, expires_at: datetime | None) -> OfferQuery:
    """The question with the time that the order needs the cards for (None: without an end), and
    with all of the network unless it asks for less."""
    hours = Decimal(MAX_HOURS)
    if expires_at is not None:
        seconds = max(0, int((expires_at - now()).total_seconds()))
        hours = min(hours, Decimal(-(-seconds // _HUNDREDTH)) / 100)
    return replace(
        query,
        min_hours=max(hours, query.min_hours or Decimal(0)),
        # Nobody expects a machine without the internet who did not ask for one.
        egress=query.egress or EGRESS[0],
    )


def end_of(rental: Rental) -> datetime | None:
    """The end of one that waits, counted from now where it counts from its placement."""
    seconds = (rental.wanted or {}).get("max_seconds")
    return rental.expires_at if seconds is None else now() + timedelta(seconds=seconds)


def admit(quote: Quote, expires_at: datetime | None) -> None:
    """Raise InvalidRequest (expires_at) for an end that lies behind the one of the offer."""
    known = [at for at in (quote.contract_ends_at, quote.offer.closes_at) if at is not None]
    if known and expires_at is not None and expires_at > min(known):
        raise InvalidRequest({"expires_at": [_too_late(min(known))]})


def mistakes(rental: Rental, expires_at: datetime | None) -> list[tuple[str, str]]:
    """What is wrong with moving the end of a rental to there, as (field, message)."""
    last = rental.contract_ends_at
    if last is None or expires_at is None or expires_at <= last:
        return []
    return [("expires_at", _too_late(last))]


def kept_off(*, until: datetime | None) -> tuple[UUID, ...]:
    """Nodes that are taken down before ``until`` (None: no end), so that nobody new is placed
    there."""
    rows = Maintenance.objects.filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=AppNow()), withdrawn_at=None, node_ref__isnull=False
    )
    if until is not None:
        rows = rows.filter(starts_at__lt=until)
    nodes: Sequence[UUID | None] = list(rows.values_list("node_ref", flat=True))
    return tuple({node for node in nodes if node is not None})


def _too_late(last: datetime) -> str:
    return (
        f"the owner takes these cards back at {rfc3339(last)}: choose an earlier end, or other "
        "cards to keep them for longer"
    )
