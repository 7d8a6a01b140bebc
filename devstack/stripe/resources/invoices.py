"""Invoices: draft, finalize, pay, send, void, mark uncollectible.

Only what the caller asks for happens: automatic advancing (auto_advance=true) is a 501, and so
are discounts. A total below Stripe's minimum charge goes to
the customer's balance and on the next invoice, as at Stripe.
"""

from devstack.stripe import answers, tax
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, only, operation
from devstack.stripe.resources import customers, invoice_items, manual_tax, tax_ids

KIND = "invoice"
DAY_S = 24 * 3600
TAXES = "invoice_taxes"  # invoice -> tax of each line; frozen with the draft
_EDITABLE = "automatic_tax custom_fields description footer metadata default_payment_method number"


def fetch(sim: Simulator, invoice: str) -> Answer:
    """An invoice named in the path."""
    return sim.fetch(KIND, invoice, param="invoice", in_path=True)


@operation(
    "POST",
    "/v1/invoices",
    takes="customer auto_advance collection_method currency days_until_due due_date "
    f"pending_invoice_items_behavior {_EDITABLE}",
)
def create(sim: Simulator, params: Params) -> Answer:
    if "customer" not in params:
        raise invalid_request(
            "Missing required param: customer.", param="customer", code="parameter_missing"
        )
    customer = customers.fetch(sim, params["customer"])
    _no_advance(params)
    usd_only(params.get("currency", "usd"))
    method = params.get("collection_method", "charge_automatically")
    invoice = answers.blank(
        KIND,
        id=sim.new_id("in"),
        account_country="US",
        account_name="Simulated account",
        amount_due=0,
        amount_overpaid=0,
        amount_paid=0,
        amount_remaining=0,
        amount_shipping=0,
        attempt_count=0,
        attempted=False,
        auto_advance=False,
        automatic_tax={
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        billing_reason="manual",
        collection_method=method,
        created=sim.now(),
        currency="usd",
        customer=customer["id"],
        customer_address=customer["address"],
        customer_email=customer["email"],
        customer_name=customer["name"],
        customer_phone=customer["phone"],
        customer_shipping=customer["shipping"],
        customer_tax_exempt=customer["tax_exempt"],
        customer_tax_ids=[],
        default_tax_rates=[],
        discounts=[],
        due_date=_due(sim, params, method),
        issuer={"account": None, "type": "self"},
        lines={},
        metadata={},
        payment_settings={
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        period_end=sim.now(),
        period_start=sim.now(),
        post_payment_credit_notes_amount=0,
        pre_payment_credit_notes_amount=0,
        starting_balance=customer["balance"],
        status="draft",
        status_transitions=dict.fromkeys(
            ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
        ),
        subtotal=0,
        total=0,
        total_discount_amounts=[],
        total_pretax_credit_amounts=[],
        total_taxes=[],
    )
    _edit(sim, invoice, params)
    if params.get("pending_invoice_items_behavior") == "include":
        for item in invoice_items.pending_of(sim, customer["id"]):
            sim.save({**item, "invoice": invoice["id"]})
    invoice = refresh(sim, invoice)
    sim.emit("invoice.created", invoice)
    return invoice


def _no_advance(params: Params) -> None:
    if params.get("auto_advance"):
        raise not_simulated("auto_advance=true")


def _due(sim: Simulator, params: Params, method: str) -> int | None:
    given = [n for n in ("days_until_due", "due_date") if n in params]
    if method == "charge_automatically":
        if given:
            raise invalid_request(
                f"You can only specify {given[0]} if collection_method=send_invoice.",
                param=given[0],
            )
        return None
    if len(given) != 1:
        raise invalid_request(
            "If collection_method=send_invoice, exactly one of days_until_due and due_date must "
            "be set.",
            param="days_until_due",
        )
    if "due_date" in params:
        return int(params["due_date"])
    return int(sim.now() + params["days_until_due"] * DAY_S)


def _edit(sim: Simulator, invoice: Answer, params: Params) -> None:
    if params.get("default_payment_method"):
        method = sim.fetch(
            "payment_method", params["default_payment_method"], param="default_payment_method"
        )
        if method["customer"] != invoice["customer"]:
            raise invalid_request(
                f"The payment method {method['id']} must be attached to the customer "
                f"{invoice['customer']}.",
                param="default_payment_method",
            )
    for name in _EDITABLE.split():
        if name == "automatic_tax":
            _tax_setting(invoice, params)
        elif name == "metadata":
            invoice[name] = merged_metadata(invoice[name] or {}, params.get(name))
        elif name in params:
            invoice[name] = params[name] or None


def _tax_setting(invoice: Answer, params: Params) -> None:
    if "automatic_tax" in params:
        only(params["automatic_tax"], "enabled", "automatic_tax")
        enabled = params["automatic_tax"]["enabled"]
        invoice["automatic_tax"] |= {
            "enabled": enabled,
            "liability": {"account": None, "type": "self"} if enabled else None,
            "provider": "stripe" if enabled else None,
            "status": None,
        }


def lines_of(sim: Simulator, invoice: str) -> list[Answer]:
    """Lines of an invoice in the order of its items."""
    taxes = sim.store.get(TAXES, invoice) or {}
    lines = [invoice_items.line(item) for item in invoice_items.of_invoice(sim, invoice)]
    return [line | {"taxes": taxes.get(line["id"], [])} for line in lines]


def _tax(sim: Simulator, invoice: Answer, owner: Answer) -> int:
    """Tax the lines of a draft; returns the cents."""
    enabled = invoice["automatic_tax"]["enabled"]
    known = tax.located(owner)
    if enabled:
        invoice["automatic_tax"]["status"] = "complete" if known else "requires_location_inputs"
    lines, own = lines_of(sim, invoice["id"]), manual_tax.of(sim, invoice["id"])
    taxes = {line["id"]: own[line["id"]] for line in lines if line["id"] in own}
    if enabled:
        taxes = {
            line["id"]: [tax.on(sim, owner["tax_exempt"], line["amount"])]
            for line in lines
            if known
        }
    sim.store.put(TAXES, invoice["id"], taxes)
    parts = [part for line in taxes.values() for part in line]
    invoice["total_taxes"] = manual_tax.totals(parts)
    return int(sum(part["amount"] for part in parts))


def refresh(sim: Simulator, invoice: Answer) -> Answer:
    """Recompute lines and totals of a draft, and store it."""
    owner = sim.find("customer", invoice["customer"]) or {}
    taxed = _tax(sim, invoice, owner)
    lines = lines_of(sim, invoice["id"])
    total = sum(line["amount"] for line in lines)
    if not owner.get("deleted"):
        invoice |= {
            "customer_address": owner["address"],
            "customer_tax_exempt": owner["tax_exempt"],
            "customer_tax_ids": [
                {"type": t["type"], "value": t["value"]} for t in tax_ids.of(sim, owner["id"])
            ],
        }
    url = f"/v1/invoices/{invoice['id']}/lines"
    invoice |= {
        "lines": sim.page(lines, {}, url, newest_first=False) | {"total_count": len(lines)},
        "starting_balance": owner.get("balance", 0),
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total + taxed,
        "total_excluding_tax": total,
    }
    due = max(invoice["total"] + invoice["starting_balance"], 0)
    invoice |= {"amount_due": due, "amount_remaining": due}
    return sim.save(invoice)


def need(invoice: Answer, verb: str, *statuses: str) -> None:
    """400 unless the invoice is in one of these states."""
    if invoice["status"] not in statuses:
        raise invalid_request(
            f"You cannot {verb} the invoice {invoice['id']}: it is {invoice['status']}, it must "
            f"be {' or '.join(statuses)}.",
            code="invoice_not_editable" if verb in {"edit", "delete"} else None,
        )


@operation("POST", "/v1/invoices/{invoice}", takes=f"auto_advance {_EDITABLE}")
def update(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    found = fetch(sim, invoice)
    _no_advance(params)
    if set(params) - {"metadata", "auto_advance"}:
        need(found, "edit", "draft")
    _edit(sim, found, params)
    sim.save(found)
    sim.emit("invoice.updated", found)
    return found


@operation("DELETE", "/v1/invoices/{invoice}")
def delete(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    found = fetch(sim, invoice)
    need(found, "delete", "draft")
    for item in invoice_items.of_invoice(sim, invoice):
        sim.store.remove(invoice_items.KIND, item["id"])
    sim.store.remove(KIND, invoice)
    sim.emit("invoice.deleted", found)
    return {"id": invoice, "object": KIND, "deleted": True}


@operation("GET", "/v1/invoices/{invoice}")
def retrieve(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    return fetch(sim, invoice)


@operation(
    "GET", "/v1/invoices", takes=f"{PAGING} customer status collection_method created due_date"
)
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        i
        for i in sim.store.rows(KIND)
        if all(params.get(n) in (None, i[n]) for n in ("customer", "status", "collection_method"))
        and matches_time(i["created"], params.get("created"))
        and (
            params.get("due_date") is None
            or (i["due_date"] and matches_time(i["due_date"], params["due_date"]))
        )
    ]
    return sim.page(rows, params, "/v1/invoices")


@operation("GET", "/v1/invoices/{invoice}/lines", takes=PAGING)
def lines(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    fetch(sim, invoice)
    url = f"/v1/invoices/{invoice}/lines"
    return sim.page(lines_of(sim, invoice), params, url, newest_first=False)


@operation("POST", "/v1/invoices/{invoice}/send")
def send(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    from devstack.stripe.resources import invoice_payments

    found = fetch(sim, invoice)
    if found["collection_method"] != "send_invoice":
        raise invalid_request(
            "You can only manually send an invoice if its collection method is 'send_invoice'."
        )
    if found["status"] == "draft":
        found = invoice_payments.finalize_draft(sim, found)
    need(found, "send", "open", "paid")
    sim.emit("invoice.sent", found)
    return found


@operation("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    found = fetch(sim, invoice)
    need(found, "mark as uncollectible", "open")
    found["status"] = "uncollectible"
    found["status_transitions"]["marked_uncollectible_at"] = sim.now()
    sim.save(found)
    sim.emit("invoice.marked_uncollectible", found)
    return found
