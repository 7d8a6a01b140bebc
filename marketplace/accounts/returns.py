"""What people order about money that goes back, each with its audit row. Joins the caller's
transaction throughout. Large sums wait in billing for a second person of the staff."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from billing.contracts.disputes import DisputeView
from billing.contracts.refunds import (
    AdjustmentView,
    CreditNoteView,
    OrderKind,
    OrderView,
    PromotionView,
    RefundView,
)
from billing.facade import disputes, refunds
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from kernel.money import format_micro
from marketplace.accounts import audit, staffing
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
    _record(acting, OrderKind.REFUND, "order", view)
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
    _record(acting, OrderKind.REFUND, "order", view)
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
    _record(acting, OrderKind.CREDIT_NOTE, "order", view)
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
    _record(acting, OrderKind.ADJUSTMENT, "order", view)
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
    _record(acting, OrderKind.PROMOTION, "order", view)
    return view


def approve(*, acting: Principal, kind: OrderKind, order_id: str) -> OrderView:
    """The second person's yes; where there is none, the same person's, a day later."""
    acting.require(STAFF)
    view = refunds.approve(
        kind=kind,
        order_id=_id(kind, order_id),
        approved_by=acting.staff_actor,
        alone=staffing.alone(),
    )
    _record(acting, kind, "approve", view, **({"alone": True} if view.alone else {}))
    return view


def decline(*, acting: Principal, kind: OrderKind, order_id: str, reason: str) -> OrderView:
    """End an order that waits for a second person; whoever ordered it may withdraw it so."""
    acting.require(STAFF)
    view = refunds.decline(
        kind=kind,
        order_id=_id(kind, order_id),
        declined_by=acting.staff_actor,
        reason=reason,
    )
    verb = "withdraw" if view.declined_by == view.ordered_by else "decline"
    _record(acting, kind, verb, view, why=view.declined_for)
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


def _record(
    acting: Principal, kind: OrderKind, verb: str, view: OrderView, **more: bool | str
) -> None:
    audit.record(
        acting=acting,
        action=f"{kind}.{verb}",
        object=public(kind, view.id),
        organization_ref=view.org_ref,
        details={
            "amount": format_micro(view.amount_micro),
            "reason": view.reason,
            "state": str(view.state),
            **more,
        },
    )
