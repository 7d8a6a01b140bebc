"""Fetch Stripe's objects as they are now and reduce them to our facts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe

from billing.contracts import InvoiceState, PaymentState
from billing.payments.facts import CardFact, InvoiceFact, ObjectFact, PaymentFact, SessionFact
from billing.stripe_gateway.client import call

# The metadata that names our row on each object of ours.
TOPUP, SETUP, INVOICE, LINE, ORG, PROVIDER, PAYOUT = (
    f"gpuyard_{name}"
    for name in ("topup", "card_setup", "invoice", "invoice_line", "org", "provider", "payout")
)

_INTENT_STATES = {
    "succeeded": PaymentState.SUCCEEDED,
    "canceled": PaymentState.CANCELED,
    "processing": PaymentState.PENDING,
}


def ours(thing: Any, name: str) -> UUID | None:
    """The id that the object's metadata carries under ``name``; None when it is not ours."""
    try:
        return UUID((thing.metadata or {})[name])
    except (KeyError, ValueError):
        return None


def object_fact(thing: Any) -> ObjectFact:
    """A PaymentIntent, Checkout session or invoice as a person would look for it."""
    plain = thing.to_dict(for_json=True)
    amounts = (plain.get(name) for name in ("amount_total", "total", "amount_received", "amount"))
    customer = plain.get("customer")
    return ObjectFact(
        stripe_id=thing.id,
        type=str(plain.get("object", "")),
        status=str(plain.get("status") or ""),
        amount_minor=next((amount for amount in amounts if amount), None),
        currency=str(plain.get("currency") or "").upper(),
        customer=str(customer.get("id") if isinstance(customer, dict) else customer or ""),
    )


def payment_intent(stripe_id: str) -> stripe.PaymentIntent:
    """A PaymentIntent with its charge and what that did to our balance."""
    options: Any = {"expand": ["latest_charge.balance_transaction"]}
    return call(lambda client: client.v1.payment_intents.retrieve(stripe_id, options))


def payment_fact(intent: stripe.PaymentIntent) -> PaymentFact:
    """State, amount, fee and failure of a PaymentIntent."""
    error = intent.last_payment_error
    state = _INTENT_STATES.get(intent.status, PaymentState.OPEN)
    if error is not None and intent.status == "requires_payment_method":
        state = PaymentState.FAILED
    received = state == PaymentState.SUCCEEDED
    brand, last4 = _paid_with(intent) if received else ("", "")
    return PaymentFact(
        stripe_id=intent.id,
        state=state,
        amount_minor=intent.amount_received if received else intent.amount,
        currency=intent.currency.upper(),
        fee_minor=_fee(intent) if received else None,
        failure=None if error is None or received else error.message or error.code,
        card_brand=brand,
        card_last4=last4,
    )


def _paid_with(intent: stripe.PaymentIntent) -> tuple[str, str]:
    """Brand and last digits of the card, empty when something else paid."""
    charge = intent.latest_charge
    details = None if charge is None or isinstance(charge, str) else charge.payment_method_details
    card = details.card if details else None
    return (card.brand or "", card.last4 or "") if card else ("", "")


def _fee(intent: stripe.PaymentIntent) -> int | None:
    charge = intent.latest_charge
    moved = None if charge is None or isinstance(charge, str) else charge.balance_transaction
    return None if moved is None or isinstance(moved, str) else moved.fee


def session(stripe_id: str) -> stripe.checkout.Session:
    """A Checkout session with the card that its setup saved."""
    options: Any = {"expand": ["setup_intent.payment_method"]}
    return call(lambda client: client.v1.checkout.sessions.retrieve(stripe_id, options))


def session_fact(found: stripe.checkout.Session) -> SessionFact:
    """State and page of a Checkout session."""
    return SessionFact(stripe_id=found.id, status=found.status or "open", url=found.url)


def saved_card(found: stripe.checkout.Session) -> CardFact | None:
    """The card a completed setup session saved."""
    intent = found.setup_intent
    if found.status != "complete" or intent is None or isinstance(intent, str):
        return None
    method = intent.payment_method
    return None if method is None or isinstance(method, str) else card_fact(method)


def payment_method(stripe_id: str) -> stripe.PaymentMethod:
    """A saved card."""
    return call(lambda client: client.v1.payment_methods.retrieve(stripe_id))


def card_fact(method: stripe.PaymentMethod) -> CardFact | None:
    """The card's face; None when the method is no card."""
    if method.card is None:
        return None
    owner = method.customer
    return CardFact(
        stripe_id=method.id,
        customer=owner if owner is None or isinstance(owner, str) else owner.id,
        brand=method.card.brand,
        last4=method.card.last4 or "",
        exp_month=method.card.exp_month,
        exp_year=method.card.exp_year,
        fingerprint=method.card.fingerprint or "",
    )


def invoice(stripe_id: str) -> stripe.Invoice:
    """An invoice with the records of its payments."""
    return call(lambda client: client.v1.invoices.retrieve(stripe_id, {"expand": ["payments"]}))


def invoice_fact(found: stripe.Invoice) -> InvoiceFact:
    """State, total and succeeded payments; fetches the payments of a paid invoice."""
    return InvoiceFact(
        stripe_id=found.id,
        state=InvoiceState(found.status or "draft"),
        total_minor=found.total,
        currency=found.currency.upper(),
        number=found.number,
        hosted_url=found.hosted_invoice_url,
        payments=_payments(found) if found.status == "paid" else (),
    )


def _payments(found: stripe.Invoice) -> tuple[PaymentFact, ...]:
    records = found.payments.data if found.payments else []
    facts = []
    for record in records:
        intent = record.payment.payment_intent
        if record.status == "paid" and intent is not None:
            name = intent if isinstance(intent, str) else intent.id
            facts.append(payment_fact(payment_intent(name)))
    return tuple(facts)
