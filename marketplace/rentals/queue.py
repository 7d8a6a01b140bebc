"""Where waiting rentals stand: how many that want the same kind of card asked before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from kernel.text import rfc3339
from marketplace.models import Rental
from marketplace.rentals.state import QUEUED


def positions(rentals: Sequence[Rental]) -> dict[UUID, dict[str, Any]]:
    """By rental, for those that are queued: position from 1, and until when it waits at most."""
    waiting = {rental.id: rental for rental in rentals if rental.state == QUEUED}
    if not waiting:
        return {}
    earlier = Q(queued_at__lt=OuterRef("queued_at")) | Q(
        queued_at=OuterRef("queued_at"), id__lt=OuterRef("id")
    )
    ahead = (
        Rental.objects.filter(earlier, state=QUEUED, accelerator=OuterRef("accelerator"))
        .order_by()
        .values("state")
        .annotate(count=Count("id"))
        .values("count")
    )
    rows = Rental.objects.filter(id__in=waiting).annotate(ahead=Coalesce(Subquery(ahead), 0))
    return {
        row_id: {
            "position": count + 1,
            "since": rfc3339(waiting[row_id].queued_at),
            "deadline_at": rfc3339(waiting[row_id].queue_until),
        }
        for row_id, count in rows.values_list("id", "ahead")
    }
