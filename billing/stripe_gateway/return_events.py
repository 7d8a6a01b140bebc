"""Events about money that goes back: fetch the object, converge. Order and repetition are harmless.

A refund or dispute may be told before its payment: then the payment is converged on first, so money
that came is always booked before it goes.
"""

from __future__ import annotations

import stripe

from billing.invoicing import credit_note as notes
from billing.models import EventOutcome, Invoice
from billing.payments import converge, refund_converge, unknown
from billing.payments import dispute as disputes
from billing.stripe_gateway import read, read_returns
from billing.stripe_gateway.outcome import outcome_of
from kernel.errors import PermanentError


def refund(object_id: str) -> EventOutcome:
    """refund.created, .updated, .failed."""
    return _refund(read_returns.refund(object_id))


def charge_refunded(object_id: str) -> EventOutcome:
    """charge.refunded names the charge: every refund of it is looked at."""
    outcomes = [_refund(found) for found in read_returns.refunds_of(object_id)]
    for worst in (EventOutcome.UNKNOWN_OBJECT, EventOutcome.APPLIED):
        if worst in outcomes:
            return worst
    return EventOutcome.IGNORED


def dispute(object_id: str) -> EventOutcome:
    """charge.dispute.*"""
    fact = read_returns.dispute_fact(read_returns.dispute(object_id))
    if disputes.dispute_seen(fact):
        return EventOutcome.APPLIED
    _book_payment(fact.payment)
    if disputes.dispute_seen(fact):
        return EventOutcome.APPLIED
    raise PermanentError(f"the payment {fact.payment} of this dispute is not known here")


def credit_note(object_id: str) -> tuple[EventOutcome, str]:
    """credit_note.*; and Stripe's id of the invoice. One made by hand is listed for people."""
    found = read_returns.credit_note(object_id)
    fact = read_returns.credit_note_fact(found)
    note = read.ours(found, read_returns.CREDIT_NOTE)
    if note is not None:
        known = notes.note_seen(note, fact)
        return outcome_of(known, found, read_returns.CREDIT_NOTE, note), fact.invoice
    invoice = Invoice.objects.filter(stripe_id=fact.invoice).first()
    if invoice is None:
        return EventOutcome.IGNORED, fact.invoice
    unknown.record(read.object_fact(found), names=read.INVOICE, claimed_ref=invoice.id)
    return EventOutcome.UNKNOWN_OBJECT, fact.invoice


def _refund(found: stripe.Refund) -> EventOutcome:
    fact = read_returns.refund_fact(found)
    ours = read.ours(found, read_returns.REFUND)
    if ours is not None:
        known = refund_converge.refund_seen(ours, fact)
        return outcome_of(known, found, read_returns.REFUND, ours)
    if refund_converge.refund_by_hand(fact):
        return EventOutcome.APPLIED
    _book_payment(fact.payment)
    if refund_converge.refund_by_hand(fact):
        return EventOutcome.APPLIED
    raise PermanentError(f"the payment {fact.payment} of this refund is not known here")


def _book_payment(name: str) -> None:
    """Book a top-up's payment that no event has told us of yet."""
    if not name:
        return
    intent = read.payment_intent(name)
    topup = read.ours(intent, read.TOPUP)
    if topup is not None:
        converge.topup_payment(topup, read.payment_fact(intent))
