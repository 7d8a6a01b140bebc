"""Billing's door for money that goes back by order: refunds, credit notes, adjustments; and the
signals of fraud. Orders of staff above a limit wait for a second person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from billing.contracts.refunds import (
    AdjustmentView,
    CreditNoteView,
    FraudView,
    PromotionView,
    RefundView,
)
from billing.invoicing import credit_note as _notes
from billing.payments import adjust as _adjust
from billing.payments import fraud as _fraud
from billing.payments import promo as _promo
from billing.payments import refund as _refund


def order_refund(
    *, org_ref: UUID, amount_micro: int | None, reason: str, ordered_by: str, by_renter: bool
) -> RefundView:
    """In a transaction: refund purchased credit that is unspent and not held; None: all of it.

    by_renter: at once, within the renter's own limit. InvalidRequest says how much is possible.
    """
    return _refund.order_refund(
        org_ref=org_ref,
        amount_micro=amount_micro,
        reason=reason,
        ordered_by=ordered_by,
        by_renter=by_renter,
    )


def approve_refund(*, order_id: UUID, approved_by: str) -> RefundView:
    """In a transaction: the second person's yes. Refusal invalid_transition to whoever ordered."""
    return _refund.approve_refund(order_id=order_id, approved_by=approved_by)


def refunds(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[RefundView]:
    """Orders, newest first, of one organization or of all; ``after``: the last id before."""
    return _refund.refunds(org_ref=org_ref, after=after, limit=limit)


def refunds_in_transit() -> int:
    """Refunded here and not yet taken from our balance at Stripe: stripe_cash is lower by this."""
    return _refund.in_transit()


def order_credit_note(
    *, invoice_id: UUID, amount_micro: int, reason: str, ordered_by: str
) -> CreditNoteView:
    """In a transaction: lower an open invoice, or give credit for a paid one."""
    return _notes.order_credit_note(
        invoice_id=invoice_id, amount_micro=amount_micro, reason=reason, ordered_by=ordered_by
    )


def approve_credit_note(*, note_id: UUID, approved_by: str) -> CreditNoteView:
    """In a transaction: the second person's yes. Refusal invalid_transition to whoever ordered."""
    return _notes.approve_credit_note(note_id=note_id, approved_by=approved_by)


def credit_notes(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[CreditNoteView]:
    """Newest first, of one organization or of all; ``after``: the last id before."""
    return _notes.credit_notes(org_ref=org_ref, after=after, limit=limit)


def order_adjustment(
    *,
    org_ref: UUID,
    amount_micro: int,
    against: str,
    reason: str,
    linked: UUID | None,
    ordered_by: str,
) -> AdjustmentView:
    """In a transaction: give, or (negative) take, between a tenant and platform_cost or revenue."""
    return _adjust.order_adjustment(
        org_ref=org_ref,
        amount_micro=amount_micro,
        against=against,
        reason=reason,
        linked=linked,
        ordered_by=ordered_by,
    )


def approve_adjustment(*, adjustment_id: UUID, approved_by: str) -> AdjustmentView:
    """In a transaction: the second person's yes. Refusal invalid_transition to whoever ordered."""
    return _adjust.approve_adjustment(adjustment_id=adjustment_id, approved_by=approved_by)


def adjustments(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[AdjustmentView]:
    """Newest first, of one organization or of all; ``after``: the last id before."""
    return _adjust.adjustments(org_ref=org_ref, after=after, limit=limit)


def order_promotion(
    *, org_ref: UUID, amount_micro: int, expires_at: datetime, reason: str, ordered_by: str
) -> PromotionView:
    """In a transaction: credit that expires; it is spent first and never paid out."""
    return _promo.order_promotion(
        org_ref=org_ref,
        amount_micro=amount_micro,
        expires_at=expires_at,
        reason=reason,
        ordered_by=ordered_by,
    )


def approve_promotion(*, grant_id: UUID, approved_by: str) -> PromotionView:
    """In a transaction: the second person's yes. Refusal invalid_transition to whoever ordered."""
    return _promo.approve_promotion(grant_id=grant_id, approved_by=approved_by)


def promotions(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[PromotionView]:
    """Newest first, of one organization or of all; ``after``: the last id before."""
    return _promo.promotions(org_ref=org_ref, after=after, limit=limit)


def fraud_signals(*, org_refs: Sequence[UUID]) -> dict[UUID, FraudView]:
    """Counts per organization for people to judge; nothing acts on them."""
    return _fraud.signals(org_refs=org_refs)
