"""What waits for a person in payments: how many, and the oldest. One query each."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db.models import Count, Min

from billing.contracts.disputes import ANSWERABLE
from billing.models import (
    Adjustment,
    CreditNote,
    Dispute,
    PromoGrant,
    RefundOrder,
    UnknownObject,
)
from billing.models.ordered import Ordered

_KINDS: Final[tuple[type[Ordered], ...]] = (RefundOrder, CreditNote, Adjustment, PromoGrant)


def disputes() -> tuple[int, datetime | None]:
    """Those that may be answered and for which no evidence was ordered."""
    rows = Dispute.objects.filter(state__in=sorted(ANSWERABLE), evidence_at__isnull=True)
    found = rows.aggregate(count=Count("id"), oldest=Min("created_at"))
    return found["count"], found["oldest"]


def orders() -> tuple[int, datetime | None]:
    """Orders of every kind that want a second person and have none yet."""
    parts = [
        kind._default_manager.filter(needs_second=True, approved_by="", declined_by="")
        for kind in _KINDS
    ]
    first, *others = [rows.order_by().values_list("created_at", flat=True) for rows in parts]
    times = list(first.union(*others, all=True))
    return len(times), min(times, default=None)


def unknown_objects() -> tuple[int, datetime | None]:
    """Objects at Stripe that name no row of ours."""
    found = UnknownObject.objects.aggregate(count=Count("id"), oldest=Min("first_seen_at"))
    return found["count"], found["oldest"]
