"""From a draft to money: finalize, pay, void, and the record of an invoice's payments."""

from typing import Any

from devstack.stripe import answers, payments, tax
from devstack.stripe.cards import Card
from devstack.stripe.core import Simulator, matches_time
from devstack.stripe.errors import StripeError, invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, included, operation
from devstack.stripe.resources import invoices, payment_methods

KIND = "invoice_payment"


@operation("POST", "/v1/invoices/{invoice}/finalize", takes="auto_advance")
def finalize(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    if params.get("auto_advance"):
        raise not_simulated("auto_advance=true")
    found = invoices.fetch(sim, invoice)
    if found["status"] != "draft":
        raise invalid_request(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    return finalize_draft(sim, found)


def finalize_draft(sim: Simulator, invoice: Answer) -> Answer:
    """Number it, settle it against the customer's balance and open it for payment."""
    invoice = invoices.refresh(sim, invoice)
    if invoice["automatic_tax"]["status"] == "requires_location_inputs":
        raise tax.no_place()
    customer = sim.fetch("customer", invoice["customer"], param="customer")
    number = invoice["number"]
    if number is None:
        number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}"
        customer["next_invoice_sequence"] += 1
    due = invoice["total"] + invoice["starting_balance"]
    chargeable = due >= payments.MIN_AMOUNT
    customer["balance"] = 0 if chargeable else due
    sim.save(customer)
    invoice |= {
        "amount_due": due if chargeable else 0,
        "amount_remaining": due if chargeable else 0,
        "ending_balance": customer["balance"],
        "effective_at": sim.now(),
        "hosted_invoice_url": f"{sim.base_url}/i/{invoice['id']}",
        "number": number,
        "status": "open",
    }
    invoice["status_transitions"]["finalized_at"] = sim.now()
    sim.save(invoice)
    if chargeable:
        _request(sim, invoice)
    sim.emit("invoice.finalized", invoice)
    return invoice if chargeable else mark_paid(sim, invoice)


def _request(sim: Simulator, invoice: Answer) -> None:
    """The payment intent of an open invoice and the record that ties them."""
    intent = payments.new_intent(
        sim,
        amount=invoice["amount_due"],
        customer=invoice["customer"],
        description=f"Payment for Invoice {invoice['number']}",
        automatic_payment_methods=None,
    )
    sim.store.put(payments.PURPOSES, intent["id"], {"invoice": invoice["id"]})
    sim.save(
        answers.blank(
            KIND,
            id=sim.new_id("inpay"),
            amount_requested=invoice["amount_due"],
            created=sim.now(),
            currency="usd",
            invoice=invoice["id"],
            is_default=True,
            payment={
                "payment_intent": intent["id"],
                "type": "payment_intent",
            },
            status="open",
            status_transitions={"canceled_at": None, "paid_at": None},
        )
    )


def payments_of(sim: Simulator, invoice: str) -> list[Answer]:
    """Payment records of an invoice, oldest first."""
    return [p for p in sim.store.rows(KIND) if p["invoice"] == invoice]


def _intent_of(sim: Simulator, invoice: Answer) -> Answer:
    record = payments_of(sim, invoice["id"])[0]
    return sim.fetch("payment_intent", record["payment"]["payment_intent"], param="invoice")


@operation("POST", "/v1/invoices/{invoice}/pay", takes="payment_method off_session")
def pay(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    found = invoices.fetch(sim, invoice)
    if found["status"] == "paid":
        raise invalid_request("Invoice is already paid")
    if found["status"] == "draft":
        raise not_simulated("paying a draft invoice without finalizing it first")
    invoices.need(found, "pay", "open", "uncollectible")
    method = _method(sim, found, params.get("payment_method"))
    return attempt(sim, found, method, off_session=params.get("off_session", True))


def _method(sim: Simulator, invoice: Answer, given: str | None) -> Answer:
    customer = sim.fetch("customer", invoice["customer"], param="customer")
    chosen = (
        given
        or invoice["default_payment_method"]
        or (customer.get("invoice_settings") or {}).get("default_payment_method")
    )
    if chosen is None:
        raise invalid_request(
            "This customer has no attached payment source or default payment method. Please "
            "consider adding a default payment method.",
            code="resource_missing",
        )
    return payment_methods.resolve(sim, chosen)


def pay_on_page(sim: Simulator, invoice: Answer, card: Card, **details: Any) -> Answer:
    """The customer paid on the hosted invoice page; returns the intent or raises 402."""
    method = payment_methods.new_card(sim, card, **details)
    attempt(sim, invoice, method, off_session=False)
    return _intent_of(sim, invoice)


def attempt(sim: Simulator, invoice: Answer, method: Answer, *, off_session: bool) -> Answer:
    """One try to collect; returns the paid invoice or raises 402 with the failure on record."""
    intent = _intent_of(sim, invoice)
    try:
        intent = payments.pay(sim, intent, method, off_session=off_session, ask=True)
    except StripeError as error:
        if error.keeps_effects:
            _failed(sim, invoice)
            sim.emit("invoice.payment_failed", invoice)
        raise
    if intent["status"] != "requires_action":
        return invoices.fetch(sim, invoice["id"])
    _failed(sim, invoice)
    sim.emit("invoice.payment_action_required", invoice)
    if not off_session:
        return invoice
    raise StripeError(
        402,
        "This payment requires additional user action before it can be completed successfully. "
        "Payment can be completed using the PaymentIntent associated with the invoice.",
        kind="card_error",
        code="invoice_payment_intent_requires_action",
        keeps_effects=True,
        payment_intent=intent,
    )


def _failed(sim: Simulator, invoice: Answer) -> None:
    # Stripe counts manual attempts as the first one only.
    invoice |= {"attempted": True, "attempt_count": max(invoice["attempt_count"], 1)}
    sim.save(invoice)


def _after_success(sim: Simulator, intent: Answer) -> None:
    owner = payments.purpose(sim, intent["id"]).get("invoice")
    if owner is None:
        return
    invoice = sim.fetch(invoices.KIND, owner, param="invoice")
    invoice |= {
        "amount_paid": intent["amount_received"],
        "attempted": True,
        "attempt_count": max(invoice["attempt_count"], 1),
    }
    record = payments_of(sim, owner)[0] | {
        "amount_paid": intent["amount_received"],
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": sim.now()},
    }
    sim.save(record)
    sim.emit("invoice_payment.paid", record)
    mark_paid(sim, invoice)


payments.AFTER_SUCCESS.append(_after_success)


def mark_paid(sim: Simulator, invoice: Answer) -> Answer:
    """The invoice after its last cent was paid, or credited."""
    invoice |= {
        "amount_remaining": invoice["amount_due"] - invoice["amount_paid"],
        "attempted": True,
        "status": "paid",
    }
    invoice["status_transitions"]["paid_at"] = sim.now()
    sim.save(invoice)
    sim.emit("invoice.paid", invoice)
    sim.emit("invoice.payment_succeeded", invoice)
    return invoice


@operation("POST", "/v1/invoices/{invoice}/void")
def void(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    found = invoices.fetch(sim, invoice)
    invoices.need(found, "void", "open", "uncollectible")
    for record in payments_of(sim, invoice):
        intent = sim.fetch("payment_intent", record["payment"]["payment_intent"], param="invoice")
        payments.cancel(sim, intent, "void_invoice")
        sim.save(
            record
            | {
                "status": "canceled",
                "status_transitions": {"canceled_at": sim.now(), "paid_at": None},
            }
        )
    customer = sim.find("customer", found["customer"])
    if customer and not customer.get("deleted"):
        customer["balance"] += found["starting_balance"] - (found["ending_balance"] or 0)
        sim.save(customer)
    found |= {"status": "void", "amount_remaining": 0}
    found["status_transitions"]["voided_at"] = sim.now()
    sim.save(found)
    sim.emit("invoice.voided", found)
    return found


@operation("GET", "/v1/invoice_payments/{invoice_payment}")
def retrieve(sim: Simulator, params: Params, *, invoice_payment: str) -> Answer:
    return sim.fetch(KIND, invoice_payment, param="invoice_payment", in_path=True)


@operation("GET", "/v1/invoice_payments", takes=f"{PAGING} invoice payment status created")
def listing(sim: Simulator, params: Params) -> Answer:
    wanted = params.get("payment", {})
    rows = [
        p
        for p in sim.store.rows(KIND)
        if params.get("invoice") in (None, p["invoice"])
        and params.get("status") in (None, p["status"])
        and wanted.get("payment_intent") in (None, p["payment"]["payment_intent"])
        and matches_time(p["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/invoice_payments")


@included(invoices.KIND, "payments")
def _included(sim: Simulator, invoice: Answer) -> Answer:
    url = "/v1/invoice_payments"
    return sim.page(payments_of(sim, invoice["id"]), {}, url, newest_first=False)


@included(invoices.KIND, "confirmation_secret")
def _secret(sim: Simulator, invoice: Answer) -> Answer | None:
    if not payments_of(sim, invoice["id"]):
        return None
    secret = _intent_of(sim, invoice)["client_secret"]
    return {"client_secret": secret, "type": "payment_intent"}
