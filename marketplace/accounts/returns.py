"""What people order about money that goes back, each with its audit row. Joins the caller's
transaction throughout. Large sums wait in billing for a second person of the staff."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from billing.contracts.disputes import DisputeView
from billing.contracts.refunds import AdjustmentView, CreditNoteView, PromotionView, RefundView
from billing.facade import disputes, refunds
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from kernel.money import format_micro
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Organization


def ask_refund(*, acting: Principal, amount_micro: int | None, reason: str) -> RefundView:
    """The organization's own refund, within its limit; None: all that can go back.

    Refusal email_unverified, account_frozen; InvalidRequest says how much is possible.
    """
    acting.require("billing:write")
    acting.require_verified()
    acting.require_unfrozen()
    view = refunds.order_refund(
        org_ref=acting.org.id,
        amount_micro=amount_micro,
        reason=reason,
        ordered_by=acting.actor,
        by_renter=True,
    )
    _record(acting, "refund.order", "refund", view)
    return view


def order_refund(
    *, acting: Principal, organization_id: str, amount_micro: int | None, reason: str
) -> RefundView:
    """Staff refund an organization's unspent purchased credit; None: all of it."""
    acting.require(STAFF)
    view = refunds.order_refund(
        org_ref=find(Organization.objects.all(), organization_id).id,
        amount_micro=amount_micro,
        reason=reason,
        ordered_by=acting.staff_actor,
        by_renter=False,
    )
    _record(acting, "refund.order", "refund", view)
    return view


def approve_refund(*, acting: Principal, refund_id: str) -> RefundView:
    """The second person's yes."""
    acting.require(STAFF)
    view = refunds.approve_refund(order_id=_id("refund", refund_id), approved_by=acting.staff_actor)
    _record(acting, "refund.approve", "refund", view)
    return view


def order_credit_note(
    *, acting: Principal, invoice_id: str, amount_micro: int, reason: str
) -> CreditNoteView:
    """Lower an open invoice, or give credit for a paid one."""
    acting.require(STAFF)
    view = refunds.order_credit_note(
        invoice_id=_id("invoice", invoice_id),
        amount_micro=amount_micro,
        reason=reason,
        ordered_by=acting.staff_actor,
    )
    _record(acting, "credit_note.order", "credit_note", view)
    return view


def approve_credit_note(*, acting: Principal, note_id: str) -> CreditNoteView:
    """The second person's yes."""
    acting.require(STAFF)
    view = refunds.approve_credit_note(
        note_id=_id("credit_note", note_id), approved_by=acting.staff_actor
    )
    _record(acting, "credit_note.approve", "credit_note", view)
    return view


def order_adjustment(
    *,
    acting: Principal,
    organization_id: str,
    amount_micro: int,
    against: str,
    reason: str,
    transaction_id: str | None,
) -> AdjustmentView:
    """Give, or (negative) take, between an organization and the platform's own accounts."""
    acting.require(STAFF)
    view = refunds.order_adjustment(
        org_ref=find(Organization.objects.all(), organization_id).id,
        amount_micro=amount_micro,
        against=against,
        reason=reason,
        linked=_id("transaction", transaction_id) if transaction_id else None,
        ordered_by=acting.staff_actor,
    )
    _record(acting, "adjustment.order", "adjustment", view)
    return view


def approve_adjustment(*, acting: Principal, adjustment_id: str) -> AdjustmentView:
    """The second person's yes."""
    acting.require(STAFF)
    view = refunds.approve_adjustment(
        adjustment_id=_id("adjustment", adjustment_id), approved_by=acting.staff_actor
    )
    _record(acting, "adjustment.approve", "adjustment", view)
    return view


def order_promotion(
    *,
    acting: Principal,
    organization_id: str,
    amount_micro: int,
    expires_at: datetime,
    reason: str,
) -> PromotionView:
    """Give an organization credit until a date."""
    acting.require(STAFF)
    view = refunds.order_promotion(
        org_ref=find(Organization.objects.all(), organization_id).id,
        amount_micro=amount_micro,
        expires_at=expires_at,
        reason=reason,
        ordered_by=acting.staff_actor,
    )
    _record(acting, "promotion.order", "promotion", view)
    return view


def approve_promotion(*, acting: Principal, promotion_id: str) -> PromotionView:
    """The second person's yes."""
    acting.require(STAFF)
    view = refunds.approve_promotion(
        grant_id=_id("promotion", promotion_id), approved_by=acting.staff_actor
    )
    _record(acting, "promotion.approve", "promotion", view)
    return view


def submit_evidence(
    *,
    acting: Principal,
    dispute_id: str,
    access_activity_log: str | None = None,
    uncategorized_text: str | None = None,
) -> DisputeView:
    """Submit the evidence that the ledger gives, with these texts instead where given; once."""
    acting.require(STAFF)
    dispute = _id("dispute", dispute_id)
    composed = disputes.evidence(dispute_id=dispute)
    view = disputes.submit_evidence(
        dispute_id=dispute,
        submitted_by=acting.staff_actor,
        access_activity_log=access_activity_log or composed.access_activity_log,
        uncategorized_text=uncategorized_text or composed.uncategorized_text,
    )
    audit.record(
        acting=acting,
        action="dispute.evidence",
        object=dispute_id,
        organization_ref=view.org_ref,
    )
    return view


def _id(kind: str, text: str) -> UUID:
    try:
        return parse(kind, text)
    except BadId as error:
        raise NotFound(kind.replace("_", " ")) from error


def _record(acting: Principal, action: str, kind: str, view: Any) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=public(kind, view.id),
        organization_ref=view.org_ref,
        details={
            "amount": format_micro(view.amount_micro),
            "reason": view.reason,
            "state": str(view.state),
        },
    )
