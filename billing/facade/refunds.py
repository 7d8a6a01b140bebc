"""Billing's door for money that goes back by order: refunds, credit notes, adjustments; and the
signals of fraud. Orders of staff above a limit wait for a second person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing.contracts.refunds import (
    AdjustmentView,
    CreditNoteView,
    FraudView,
    OrderKind,
    OrderView,
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


def promotions(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[PromotionView]:
    """Newest first, of one organization or of all; ``after``: the last id before."""
    return _promo.promotions(org_ref=org_ref, after=after, limit=limit)


class _Kind(NamedTuple):
    """How orders of a kind are carried out, ended, and listed."""

    approve: Callable[..., OrderView]
    decline: Callable[..., OrderView]
    newest: Callable[..., Sequence[OrderView]]


_KINDS = {
    OrderKind.REFUND: _Kind(_refund.approve_refund, _refund.decline_refund, refunds),
    OrderKind.CREDIT_NOTE: _Kind(
        _notes.approve_credit_note, _notes.decline_credit_note, credit_notes
    ),
    OrderKind.ADJUSTMENT: _Kind(
        _adjust.approve_adjustment, _adjust.decline_adjustment, adjustments
    ),
    OrderKind.PROMOTION: _Kind(_promo.approve_promotion, _promo.decline_promotion, promotions),
}


def approve(*, kind: OrderKind, order_id: UUID, approved_by: str, alone: bool = False) -> OrderView:
    """In a transaction: the second person's yes, and it is carried out.

    alone: there is no second person, so whoever ordered it may do it a day later; Refusal
    invalid_transition before, and always while there is one.
    """
    return _KINDS[kind].approve(order_id=order_id, approved_by=approved_by, alone=alone)


def decline(*, kind: OrderKind, order_id: UUID, declined_by: str, reason: str) -> OrderView:
    """In a transaction: end an order that waits, by anybody. Nothing was booked and nothing is."""
    return _KINDS[kind].decline(order_id=order_id, declined_by=declined_by, reason=reason)


def orders(*, kind: OrderKind, limit: int) -> Sequence[OrderView]:
    """The newest of a kind, of all organizations."""
    return _KINDS[kind].newest(limit=limit)


def fraud_signals(*, org_refs: Sequence[UUID]) -> dict[UUID, FraudView]:
    """Counts per organization for people to judge; nothing acts on them."""
    return _fraud.signals(org_refs=org_refs)
