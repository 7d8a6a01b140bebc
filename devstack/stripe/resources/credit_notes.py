"""Credit notes: less to pay on an open invoice, money back on a paid one.

A note first lowers what remains to be paid; what exceeds that was paid already and goes back as a
refund, as balance of the customer, or outside of Stripe. These must add up to the cent.

Limits: no shipping, no tax given by hand (a note carries its share of the invoice's tax).
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from devstack.stripe import answers, payments
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, only, operation
from devstack.stripe.resources import invoice_payments, invoices, refunds

KIND = "credit_note"
LINES = "credit_note_lines"
BALANCE = "customer_balance_transaction"
_GIVEN = (
    "invoice amount lines credit_amount out_of_band_amount refund_amount refunds memo metadata "
    "reason effective_at email_type"
)


def issued_on(sim: Simulator, invoice: str) -> list[Answer]:
    """The notes of an invoice that count, oldest first."""
    return [n for n in sim.store.rows(KIND) if n["invoice"] == invoice and n["status"] == "issued"]


def _share(part: int, tax: int, whole: int) -> int:
    """The tax in cents on `part` when `whole` carries `tax`."""
    if not tax:
        return 0
    return int((Decimal(part) * tax / whole).quantize(Decimal(1), ROUND_HALF_UP))


def _drafted(sim: Simulator, params: Params) -> tuple[Answer, Answer]:
    """(note, invoice) that the parameters describe, with nothing stored; 400 beyond the limits."""
    invoice = sim.fetch(invoices.KIND, params["invoice"], param="invoice")
    if invoice["status"] not in {"open", "paid"}:
        raise invalid_request(
            "You can only create credit notes for invoices that are open or paid; this one is "
            f"{invoice['status']}.",
            param="invoice",
        )
    subtotal, total, lines = _amounts(sim, invoice, params)
    left = invoice["total"] - sum(n["total"] for n in issued_on(sim, invoice["id"]))
    if total > left:
        raise invalid_request(
            f"The amount to credit (${total / 100:.2f}) exceeds what is left of the invoice "
            f"(${left / 100:.2f}).",
            param="amount",
        )
    before = min(total, invoice["amount_remaining"])
    after = total - before
    identifier = sim.new_id("cn")
    count = 1 + sum(n["invoice"] == invoice["id"] for n in sim.store.rows(KIND))
    url = f"/v1/credit_notes/{identifier}/lines"
    note = answers.blank(
        KIND,
        id=identifier,
        amount=total,
        amount_shipping=0,
        created=sim.now(),
        currency="usd",
        customer=invoice["customer"],
        discount_amount=0,
        discount_amounts=[],
        effective_at=params.get("effective_at", sim.now()),
        invoice=invoice["id"],
        lines=sim.page(lines, {}, url, newest_first=False),
        memo=params.get("memo"),
        metadata=merged_metadata({}, params.get("metadata")),
        number=f"{invoice['number']}-CN-{count:02}",
        out_of_band_amount=params.get("out_of_band_amount"),
        pdf=f"{sim.base_url}/_hosted/credit_notes/{identifier}",
        post_payment_amount=after,
        pre_payment_amount=before,
        pretax_credit_amounts=[],
        reason=params.get("reason"),
        refunds=[],
        status="issued",
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal,
        total=total,
        total_excluding_tax=subtotal,
        total_taxes=_taxes(invoice, subtotal, total),
        type="pre_payment" if not after else "mixed" if before else "post_payment",
    )
    _check_allocation(params, after)
    return note, invoice


def _taxes(invoice: Answer, subtotal: int, total: int) -> list[Answer]:
    taxes = [
        {**tax, "amount": total - subtotal, "taxable_amount": subtotal}
        for tax in invoice["total_taxes"]
    ]
    return taxes if total > subtotal else []


def _amounts(sim: Simulator, invoice: Answer, params: Params) -> tuple[int, int, list[Answer]]:
    """(cents without tax, cents with tax, lines)."""
    net = invoice["total_excluding_tax"]
    tax = invoice["total"] - net
    if "lines" in params:
        lines = [_line(sim, invoice, given, n) for n, given in enumerate(params["lines"])]
        subtotal = sum(line["amount"] for line in lines)
        total = subtotal + _share(subtotal, tax, net)
        if params.get("amount", total) != total:
            raise invalid_request(
                f"The amount must be the total of the lines, {total}.", param="amount"
            )
    else:
        total = params.get("amount", 0)
        subtotal = total - _share(total, tax, invoice["total"])
        lines = [_custom(sim, "Credit", 1, Decimal(subtotal))]
    if total < 1:
        raise invalid_request(
            "You must pass one of `amount` or `lines`, and it must be positive.",
            param="amount",
            code="parameter_missing",
        )
    return subtotal, total, lines


def _line(sim: Simulator, invoice: Answer, given: Params, number: int) -> Answer:
    where = f"lines[{number}]"
    only(
        given,
        "type amount description invoice_line_item quantity unit_amount unit_amount_decimal",
        where,
    )
    if given["type"] == "custom_line_item":
        unit = given.get("unit_amount", given.get("unit_amount_decimal"))
        if unit is None or given.get("quantity", 0) < 1:
            raise invalid_request(
                "A custom line item needs a quantity and a unit amount.", param=where
            )
        return _custom(sim, given.get("description"), given["quantity"], Decimal(unit))
    wanted = given.get("invoice_line_item")
    found = next((n for n in invoices.lines_of(sim, invoice["id"]) if n["id"] == wanted), None)
    if found is None:
        raise invalid_request(
            f"No such invoice line item: '{wanted}'",
            param=f"{where}[invoice_line_item]",
            code="resource_missing",
        )
    if ("amount" in given) == ("quantity" in given):
        raise invalid_request(
            "Credit a line by exactly one of amount and quantity.", param=f"{where}[amount]"
        )
    unit = Decimal(found["pricing"]["unit_amount_decimal"])
    amount = given["amount"] if "amount" in given else _cents(unit * given["quantity"])
    credited = sum(
        n["amount"]
        for note in issued_on(sim, invoice["id"])
        for n in note["lines"]["data"]
        if n["invoice_line_item"] == wanted
    )
    if not 0 < amount <= found["amount"] - credited:
        raise invalid_request(
            f"The line has {found['amount'] - credited} cents left to credit.",
            param=f"{where}[amount]",
        )
    return _new_line(
        sim,
        amount=amount,
        description=found["description"],
        invoice_line_item=wanted,
        quantity=given.get("quantity"),
        type="invoice_line_item",
    )


def _cents(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_UP))


def _custom(sim: Simulator, description: str | None, quantity: int, unit: Decimal) -> Answer:
    return _new_line(
        sim,
        amount=_cents(unit * quantity),
        description=description,
        quantity=quantity,
        type="custom_line_item",
        unit_amount=int(unit) if unit == int(unit) else None,
        unit_amount_decimal=format(unit, "f"),
    )


def _new_line(sim: Simulator, **fields: Any) -> Answer:
    return answers.blank(
        "credit_note_line_item",
        id=sim.new_id("cnli"),
        discount_amount=0,
        discount_amounts=[],
        metadata={},
        pretax_credit_amounts=[],
        tax_rates=[],
        taxes=[],
        **fields,
    )


def _check_allocation(params: Params, after: int) -> None:
    linked = sum(r.get("amount_refunded", 0) for r in params.get("refunds", []))
    names = ("refund_amount", "credit_amount", "out_of_band_amount")
    if any(params.get(name, 0) < 0 for name in names):
        raise invalid_request("The amounts of a credit note cannot be negative.")
    given = linked + sum(params.get(name, 0) for name in names)
    if given != after:
        raise invalid_request(
            f"The sum of credit amount, refund amount and out of band amount (${given / 100:.2f}) "
            f"must equal the credit note's post payment amount (${after / 100:.2f})."
        )


@operation("POST", "/v1/credit_notes", takes=_GIVEN)
def create(sim: Simulator, params: Params) -> Answer:
    note, invoice = _drafted(sim, params)
    if params.get("refund_amount"):
        refund = refunds.give(sim, _charge(sim, invoice), params["refund_amount"])
        note["refunds"].append(_linked(refund["id"], refund["amount"]))
    for given in params.get("refunds", []):
        note["refunds"].append(_link(sim, invoice, given))
    if params.get("credit_amount"):
        note["customer_balance_transaction"] = _credit(sim, note, params["credit_amount"])
    sim.save(note)
    sim.emit("credit_note.created", note)
    invoice["post_payment_credit_notes_amount"] += note["post_payment_amount"]
    _lower(sim, invoice, note["pre_payment_amount"])
    return note


def _charge(sim: Simulator, invoice: Answer) -> Answer:
    paid = [p for p in invoice_payments.payments_of(sim, invoice["id"]) if p["status"] == "paid"]
    if not paid:
        raise invalid_request("This invoice has no payment to refund.", param="refund_amount")
    intent = sim.fetch("payment_intent", paid[0]["payment"]["payment_intent"], param="invoice")
    return sim.fetch("charge", intent["latest_charge"], param="invoice")


def _linked(refund: str, amount: int) -> Answer:
    return {
        "amount_refunded": amount,
        "payment_record_refund": None,
        "refund": refund,
        "type": "refund",
    }


def _link(sim: Simulator, invoice: Answer, given: Params) -> Answer:
    only(given, "amount_refunded refund type", "refunds")
    refund = sim.fetch(refunds.KIND, given.get("refund", ""), param="refunds[refund]")
    amount = given.get("amount_refunded", 0)
    used = sum(
        r["amount_refunded"]
        for n in sim.store.rows(KIND)
        for r in n["refunds"]
        if r["refund"] == refund["id"] and n["status"] == "issued"
    )
    charge = _charge(sim, invoice)
    if refund["charge"] != charge["id"] or not 0 < amount <= refund["amount"] - used:
        raise invalid_request(
            f"{refund['id']} is no refund of this invoice with {amount} cents to credit.",
            param="refunds[amount_refunded]",
        )
    return _linked(refund["id"], amount)


def _credit(sim: Simulator, note: Answer, amount: int) -> str:
    """Put cents on the customer's balance (negative is credit); id of the balance transaction."""
    customer = sim.fetch("customer", note["customer"], param="customer")
    customer["balance"] -= amount
    sim.save(customer)
    entry = answers.blank(
        BALANCE,
        id=sim.new_id("cbtxn"),
        amount=-amount,
        created=sim.now(),
        credit_note=note["id"],
        currency="usd",
        customer=customer["id"],
        ending_balance=customer["balance"],
        invoice=note["invoice"],
        metadata={},
        type="credit_note",
    )
    return str(sim.save(entry)["id"])


def _lower(sim: Simulator, invoice: Answer, cents: int) -> None:
    """Ask `cents` less for an open invoice (more when negative); paid when nothing is left."""
    invoice["pre_payment_credit_notes_amount"] += cents
    invoice["amount_due"] -= cents
    invoice["amount_remaining"] -= cents
    sim.save(invoice)
    sim.emit("invoice.updated", invoice)
    for record in invoice_payments.payments_of(sim, invoice["id"]) if cents else []:
        intent = sim.fetch("payment_intent", record["payment"]["payment_intent"], param="invoice")
        if invoice["amount_remaining"]:
            sim.save(intent | {"amount": invoice["amount_remaining"]})
            sim.save(record | {"amount_requested": invoice["amount_remaining"]})
        else:
            payments.cancel(sim, intent, None)
            moments = {"canceled_at": sim.now(), "paid_at": None}
            sim.save(record | {"status": "canceled", "status_transitions": moments})
    if cents and not invoice["amount_remaining"]:
        invoice_payments.mark_paid(sim, invoice)


@operation("GET", "/v1/credit_notes/preview", takes=_GIVEN)
def preview(sim: Simulator, params: Params) -> Answer:
    return _drafted(sim, params)[0]


@operation("POST", "/v1/credit_notes/{id}", takes="memo metadata")
def update(sim: Simulator, params: Params, *, id: str) -> Answer:
    note = sim.fetch(KIND, id, param="id", in_path=True)
    note["memo"] = params.get("memo", note["memo"])
    note["metadata"] = merged_metadata(note["metadata"], params.get("metadata"))
    sim.save(note)
    sim.emit("credit_note.updated", note)
    return note


@operation("POST", "/v1/credit_notes/{id}/void")
def void(sim: Simulator, params: Params, *, id: str) -> Answer:
    note = sim.fetch(KIND, id, param="id", in_path=True)
    invoice = sim.fetch(invoices.KIND, note["invoice"], param="invoice")
    if note["status"] == "void" or invoice["status"] != "open":
        raise invalid_request(
            "You can only void a credit note that is issued, of an invoice that is open."
        )
    note |= {"status": "void", "voided_at": sim.now()}
    sim.save(note)
    sim.emit("credit_note.voided", note)
    _lower(sim, invoice, -note["pre_payment_amount"])
    return note


@operation("GET", "/v1/credit_notes/{id}")
def retrieve(sim: Simulator, params: Params, *, id: str) -> Answer:
    return sim.fetch(KIND, id, param="id", in_path=True)


@operation("GET", "/v1/credit_notes", takes=f"{PAGING} created customer invoice")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        n
        for n in sim.store.rows(KIND)
        if all(params.get(name) in (None, n[name]) for name in ("customer", "invoice"))
        and matches_time(n["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/credit_notes")


@operation("GET", "/v1/credit_notes/{credit_note}/lines", takes=PAGING)
def lines(sim: Simulator, params: Params, *, credit_note: str) -> Answer:
    note = sim.fetch(KIND, credit_note, param="credit_note", in_path=True)
    url = f"/v1/credit_notes/{credit_note}/lines"
    return sim.page(note["lines"]["data"], params, url, newest_first=False)


@operation("GET", "/v1/customers/{customer}/balance_transactions", takes=f"{PAGING} invoice")
def balance_of(sim: Simulator, params: Params, *, customer: str) -> Answer:
    sim.fetch("customer", customer, param="customer", in_path=True)
    rows = [
        b
        for b in sim.store.rows(BALANCE)
        if b["customer"] == customer and params.get("invoice") in (None, b["invoice"])
    ]
    return sim.page(rows, params, f"/v1/customers/{customer}/balance_transactions")
