"""Intents: rows that say what Stripe is to be asked, committed with what wants it."""

from __future__ import annotations

from uuid import UUID

from billing.models import CallKind, StripeCall
from kernel.wake import wake_on_commit


def intend(kind: CallKind, *, key: str, subject: object, org_ref: UUID | None = None) -> None:
    """Store the intent named ``key`` once and wake the loop that executes it after commit."""
    StripeCall.objects.bulk_create(
        [StripeCall(kind=kind, key=key, subject=str(subject), org_ref=org_ref)],
        ignore_conflicts=True,
    )
    wake_on_commit("billing.stripe_out")
