"""The second person: large sums move only when somebody else of the staff agrees.

What one person orders for one organization within a day counts together, so that a sum cannot be
split to stay below the limit. The caller holds the tenant's lock, so two orders at once are seen.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import Abs

from billing.models.ordered import Ordered
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal

O = TypeVar("O", bound=Ordered)  # noqa: E741  (an order)

TOGETHER = timedelta(days=1)


def needs_second(
    model: type[Ordered], *, org_ref: UUID, ordered_by: str, amount_micro: int
) -> bool:
    """Whether this amount, with what the same person ordered before, is above the limit."""
    before = model._default_manager.filter(
        org_ref=org_ref,
        ordered_by=ordered_by,
        needs_second=False,
        created_at__gt=now() - TOGETHER,
    ).aggregate(total=Sum(Abs("amount_micro")))["total"]
    limit: int = settings.GPUYARD_SECOND_PERSON_ABOVE
    return (before or 0) + abs(amount_micro) > limit


def lock_waiting(model: type[O], order_id: UUID, *, what: str) -> O:
    """The order, locked, that waits for a second person; NotFound, Refusal invalid_transition."""
    row = model._default_manager.select_for_update().filter(id=order_id).first()
    if row is None:
        raise NotFound(what)
    if not row.waits:
        raise Refusal(
            "invalid_transition",
            f"This {what} waits for nobody's approval. Nothing was changed.",
            state="approved",
            actions=[],
        )
    return row


def approve(row: Ordered, *, approved_by: str) -> None:
    """Note the approval; Refusal invalid_transition by whoever ordered it."""
    if row.ordered_by == approved_by:
        raise Refusal(
            "invalid_transition",
            "You ordered this yourself: another member of the staff has to approve it. Nothing was "
            "moved.",
            state="waiting",
            actions=["approve"],
        )
    row.approved_by, row.approved_at = approved_by[:100], now()
    row.save(update_fields=["approved_by", "approved_at"])


def check_reason(reason: str) -> str:
    """The reason, trimmed; InvalidRequest without one."""
    text = reason.strip()
    if not 3 <= len(text) <= 500:
        raise InvalidRequest({"reason": ["say why, in 3 to 500 letters"]})
    return text
