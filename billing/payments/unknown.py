"""What Stripe has of ours and we do not know: written down and shown, never acted on.

The usual cause is a restore of the database: what was paid or begun in the time that it forgot is
still at Stripe. Crediting or refunding it would be guessing, because the wish behind it is gone.
"""

from __future__ import annotations

from uuid import UUID

import structlog

from billing.contracts import UnknownObjectView
from billing.models import CallState, StripeCall, UnknownObject
from billing.payments.facts import ObjectFact
from kernel.clock import AppNow, now

log = structlog.get_logger(__name__)


def record(fact: ObjectFact, *, names: str, claimed_ref: UUID) -> None:
    """Note an object that names a row we do not have; seeing it again updates what it is now."""
    present = {
        "type": fact.type[:50],
        "status": fact.status[:50],
        "amount_minor": fact.amount_minor,
        "currency": fact.currency[:10],
        "customer": fact.customer[:255],
        "names": names[:50],
        "claimed_ref": claimed_ref,
    }
    _, made = UnknownObject.objects.update_or_create(
        stripe_id=fact.stripe_id,
        defaults={**present, "last_seen_at": now()},
        create_defaults=present,
    )
    if made:
        log.error("stripe_unknown_object", id=fact.stripe_id, type=fact.type, names=names)


def unknown_objects() -> list[UnknownObjectView]:
    """All of them, oldest first."""
    return [
        UnknownObjectView(
            stripe_id=row.stripe_id,
            type=row.type,
            status=row.status,
            amount_minor=row.amount_minor,
            currency=row.currency,
            customer=row.customer,
            names=row.names,
            claimed_ref=row.claimed_ref,
            first_seen_at=row.first_seen_at,
            last_seen_at=row.last_seen_at,
        )
        for row in UnknownObject.objects.order_by("first_seen_at", "id")
    ]


def look_before_sending() -> int:
    """Make every waiting intent look at Stripe before it is sent; how many.

    After a restore an intent may wait again that was executed in the time that was forgotten, and
    Stripe forgets an idempotency key after a day: sending it unseen could charge a card twice.
    """
    return StripeCall.objects.filter(state=CallState.PENDING).update(
        must_look=True, next_at=AppNow()
    )
