"""Fetch refunds, disputes and credit notes as they are now and reduce them to our facts."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import stripe

from billing.contracts import PaymentState
from billing.contracts.disputes import ANSWERABLE, DisputeState
from billing.payments.return_facts import CreditNoteFact, DisputeFact, RefundFact
from billing.stripe_gateway.client import call

# The metadata that names our row on each object of ours.
REFUND, CREDIT_NOTE = "gpuyard_refund", "gpuyard_credit_note"

_REFUND_STATES = {
    "succeeded": PaymentState.SUCCEEDED,
    "failed": PaymentState.FAILED,
    "canceled": PaymentState.CANCELED,
}
# Refunds of one charge: each is at least a cent, but nobody makes more than a handful.
_MANY = 1000


def refund(stripe_id: str) -> stripe.Refund:
    """A refund."""
    return call(lambda client: client.v1.refunds.retrieve(stripe_id))


def refunds_of(charge: str) -> list[stripe.Refund]:
    """All refunds of a charge."""
    params: Any = {"charge": charge, "limit": 100}
    return call(
        lambda client: list(islice(client.v1.refunds.list(params).auto_paging_iter(), _MANY))
    )


def refund_fact(found: stripe.Refund) -> RefundFact:
    """State, amount and whether our balance at Stripe was debited."""
    return RefundFact(
        stripe_id=found.id,
        payment=_name(found.payment_intent),
        state=_REFUND_STATES.get(found.status or "", PaymentState.PENDING),
        amount_minor=found.amount,
        currency=found.currency.upper(),
        moved=found.balance_transaction is not None,
        failure=str(getattr(found, "failure_reason", None) or ""),
    )


def dispute(stripe_id: str) -> stripe.Dispute:
    """A dispute with what it moved on our balance."""
    return call(lambda client: client.v1.disputes.retrieve(stripe_id))


def dispute_fact(found: stripe.Dispute) -> DisputeFact:
    """State, due date, evidence and the sums of its balance transactions."""
    moves = found.balance_transactions
    due = found.evidence_details.due_by
    return DisputeFact(
        stripe_id=found.id,
        payment=_name(found.payment_intent),
        state=DisputeState(found.status),
        reason=found.reason,
        amount_minor=found.amount,
        currency=found.currency.upper(),
        withdrawn_minor=-sum(move.amount for move in moves if move.amount < 0),
        reinstated_minor=sum(move.amount for move in moves if move.amount > 0),
        fee_minor=sum(move.fee for move in moves if move.fee > 0),
        fee_back_minor=-sum(move.fee for move in moves if move.fee < 0),
        due_by=datetime.fromtimestamp(due, tz=UTC) if due else None,
        submitted=answered(found),
    )


def answered(found: stripe.Dispute) -> bool:
    """Whether evidence was submitted for what the bank asks now: an inquiry that became a
    chargeback asks anew, and the count of submissions goes on."""
    return found.status not in ANSWERABLE and found.evidence_details.submission_count > 0


def credit_note(stripe_id: str) -> stripe.CreditNote:
    """A credit note."""
    return call(lambda client: client.v1.credit_notes.retrieve(stripe_id))


def credit_note_fact(found: stripe.CreditNote) -> CreditNoteFact:
    """Total, number and whether it was voided."""
    return CreditNoteFact(
        stripe_id=found.id,
        invoice=_name(found.invoice),
        total_minor=found.total,
        currency=found.currency.upper(),
        number=found.number,
        void=found.status == "void",
    )


def _name(thing: Any) -> str:
    """The id of an object that may be expanded; "" without one."""
    return thing if isinstance(thing, str) else getattr(thing, "id", "")
