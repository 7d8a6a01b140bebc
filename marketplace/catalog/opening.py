"""Keeps with every offer the stretch of time in which it is for rent, now or next.

Written with whatever decides it: an owner's windows and end date, maintenance of its cluster; and
by a loop when a stretch is over. A loop that is late keeps cards off sale, never on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from kernel.clock import AppNow, now
from marketplace.catalog.availability import Stretch, read, stretch
from marketplace.models import Maintenance, Offer

_BATCH: Final = 500
Closure = tuple[datetime, datetime | None]


def advance(limit: int = _BATCH) -> int:
    """Offers whose stretch is over get the next one; how many changed."""
    over = Offer.objects.filter(closes_at__lte=AppNow()).exclude(state=Offer.State.ENDED)
    # Nothing comes after an end date, so these would be looked at again and again.
    over = over.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=AppNow()))
    with transaction.atomic(durable=True):
        locked = over.select_for_update(of=("self",), skip_locked=True).select_related("group")
        return _renew(list(locked.order_by("closes_at")[:limit]))


def renew_cluster(cluster_ref: UUID) -> None:
    """In the transaction that changed when the cluster is taken down."""
    theirs = Offer.objects.filter(group__cluster_id=cluster_ref).order_by("id")
    _renew(list(theirs.select_for_update(of=("self",)).select_related("group")))


def renew(offer: Offer) -> None:
    """Set the locked, loaded offer's times anew, without saving them."""
    closures = closures_of([offer.group.cluster_id])
    offer.opens_at, offer.closes_at = _times(offer, closures[offer.group.cluster_id])


def contract_end(offer: Offer) -> datetime | None:
    """Until when a rental that is placed on the loaded offer now may keep its cards by the owner's
    windows and end date, whatever these are changed to later. Maintenance moves, and is apart."""
    found = _stretch(offer, (), at=now())
    return None if found is None else found.closes


def closures_of(clusters: Collection[UUID]) -> dict[UUID, list[Closure]]:
    """By cluster, when all of it is taken down: what is announced or under way."""
    rows = Maintenance.objects.filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=AppNow()),
        cluster_ref__in=clusters,
        node_ref=None,
        withdrawn_at=None,
    )
    found: dict[UUID, list[Closure]] = defaultdict(list)
    for cluster, begin, end in rows.values_list("cluster_ref", "starts_at", "ends_at"):
        found[cluster].append((begin, end))
    return found


def _renew(offers: Sequence[Offer]) -> int:
    closures = closures_of({offer.group.cluster_id for offer in offers})
    changed = 0
    for offer in offers:
        before = (offer.opens_at, offer.closes_at)
        opens, closes = _times(offer, closures[offer.group.cluster_id])
        if (opens, closes) != before:
            Offer.objects.filter(pk=offer.pk).update(opens_at=opens, closes_at=closes)
            changed += 1
    return changed


def _times(offer: Offer, closures: Sequence[Closure]) -> tuple[datetime | None, datetime | None]:
    """(opens_at, closes_at) as an offer keeps them. Without a stretch to come, its end has come:
    that keeps it off sale, and the loop looking."""
    present = now()
    found = _stretch(offer, closures, at=present)
    if found is None:
        return None, min(offer.closes_at or present, present)
    opens = found.opens if found.opens > present else None
    return opens, found.closes


def _stretch(offer: Offer, closures: Sequence[Closure], *, at: datetime) -> Stretch | None:
    return stretch(weekly=read(offer.windows), ends_at=offer.ends_at, closures=closures, now=at)
