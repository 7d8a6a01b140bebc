"""The second person: large sums move only when somebody else of the staff agrees.

What one person orders for one organization within a day counts together, so that a sum cannot be
split to stay below the limit. The caller holds the tenant's lock, so two orders at once are seen.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import Abs

from billing.models.ordered import ALONE, Ordered
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.money import CURRENCY

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
            state="declined" if row.declined_by else "approved",
            actions=[],
        )
    return row


def approve(row: Ordered, *, approved_by: str, alone: bool) -> None:
    """Note the approval; Refusal invalid_transition by whoever ordered it.

    alone: there is nobody else, so whoever ordered it may carry it out a day later.
    """
    present = now()
    if row.ordered_by == approved_by:
        if not alone:
            _refuse("You ordered this yourself: another member of the staff has to approve it.")
        since = row.created_at + ALONE
        if present < since:
            _refuse(
                "You ordered this yourself and are the only member of the staff: you can carry it "
                f"out from {since:%Y-%m-%d %H:%M} UTC on, unless somebody joins."
            )
        row.alone = True
    row.approved_by, row.approved_at = approved_by[:100], present
    row.save(update_fields=["approved_by", "approved_at", "alone"])


def decline(model: type[O], order_id: UUID, *, what: str, declined_by: str, reason: str) -> O:
    """End an order that waits: nothing was booked, and nothing will be. By anybody; by whoever
    ordered it, it is withdrawn. NotFound, Refusal invalid_transition, InvalidRequest."""
    text = check_reason(reason)
    row = lock_waiting(model, order_id, what=what)
    row.declined_by, row.declined_at, row.declined_for = declined_by[:100], now(), text
    row.save(update_fields=["declined_by", "declined_at", "declined_for"])
    return row


def fields(row: Ordered) -> dict[str, Any]:
    """What every kind of order shows of itself."""
    return {
        "id": row.id,
        "org_ref": row.org_ref,
        "amount_micro": row.amount_micro,
        "currency": CURRENCY,
        "reason": row.reason,
        "ordered_by": row.ordered_by,
        "approved_by": row.approved_by,
        "alone": row.alone,
        "alone_from": row.created_at + ALONE,
        "declined_by": row.declined_by,
        "declined_for": row.declined_for,
        "created_at": row.created_at,
    }


def state(row: Ordered, moving: str) -> str:
    """``waiting`` and ``declined`` are every kind's; else ``moving``."""
    return "declined" if row.declined_by else "waiting" if row.waits else moving


def _refuse(why: str) -> NoReturn:
    raise Refusal(
        "invalid_transition",
        f"{why} Nothing was moved.",
        state="waiting",
        actions=["approve", "decline"],
    )


def check_reason(reason: str) -> str:
    """The reason, trimmed; InvalidRequest without one."""
    text = reason.strip()
    if not 3 <= len(text) <= 500:
        raise InvalidRequest({"reason": ["say why, in 3 to 500 letters"]})
    return text
