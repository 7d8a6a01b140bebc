"""Invoice items and the invoice lines made from them.

An item is an exact `amount`, or `unit_amount_decimal` times a quantity rounded half up to the
cent. Prices and products are not simulated.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, operation
from devstack.stripe.resources import customers

KIND = "invoiceitem"
MAX_ITEMS = 250


def decimal_text(value: Decimal) -> str:
    """A decimal as Stripe prints it: plain digits, no trailing zeros."""
    return format(value.normalize(), "f")


def _money(params: Params) -> tuple[int, Decimal, Decimal]:
    """(amount, unit amount, quantity) of the parameters; 400 when they do not make one price."""
    if "quantity" in params and "quantity_decimal" in params:
        raise _exclusive("quantity", "quantity_decimal")
    quantity = Decimal(
        params["quantity_decimal"] if "quantity_decimal" in params else params.get("quantity", 1)
    )
    if quantity < 0:
        raise invalid_request("Invalid non-negative decimal", param="quantity_decimal")
    if "amount" in params:
        for name in ("unit_amount_decimal", "quantity", "quantity_decimal"):
            if name in params:
                raise _exclusive("amount", name)
        return params["amount"], Decimal(params["amount"]), Decimal(1)
    if "unit_amount_decimal" not in params:
        raise invalid_request(
            "You must specify either `amount` or `unit_amount_decimal`.",
            code="parameter_missing",
            param="amount",
        )
    unit = params["unit_amount_decimal"]
    return int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP)), unit, quantity


def _exclusive(one: str, other: str) -> Exception:
    return invalid_request(
        f"You may only specify one of these parameters: {one}, {other}.",
        code="parameters_exclusive",
        param=other,
    )


@operation(
    "POST",
    "/v1/invoiceitems",
    takes="customer invoice amount currency description discountable metadata period quantity "
    "quantity_decimal unit_amount_decimal",
)
def create(sim: Simulator, params: Params) -> Answer:
    invoice = _draft(sim, params["invoice"]) if "invoice" in params else None
    if "customer" not in params and invoice is None:
        raise invalid_request(
            "Missing required param: customer.", param="customer", code="parameter_missing"
        )
    customer = customers.fetch(sim, params.get("customer") or (invoice or {})["customer"])["id"]
    if invoice is not None and invoice["customer"] != customer:
        raise invalid_request(
            f"The invoice {invoice['id']} does not belong to the customer {customer}.",
            param="invoice",
        )
    if invoice is not None and len(of_invoice(sim, invoice["id"])) >= MAX_ITEMS:
        raise invalid_request(
            f"Invoices can have at most {MAX_ITEMS} invoice items.", param="invoice"
        )
    usd_only(params.get("currency", "usd"))
    amount, unit, quantity = _money(params)
    item = answers.blank(
        KIND,
        id=sim.new_id("ii"),
        amount=amount,
        currency="usd",
        customer=customer,
        date=sim.now(),
        description=params.get("description"),
        discountable=params.get("discountable", True),
        discounts=[],
        invoice=invoice["id"] if invoice else None,
        metadata=merged_metadata({}, params.get("metadata")),
        period=_period(sim, params),
        pricing=_pricing(unit),
        proration=False,
        quantity=int(quantity),
        quantity_decimal=decimal_text(quantity),
        tax_rates=[],
    )
    sim.save(item)
    sim.emit("invoiceitem.created", item)
    _changed(sim, item)
    return item


def _pricing(unit: Decimal) -> dict[str, Any]:
    return {
        "price_details": None,
        "type": "price_details",
        "unit_amount_decimal": decimal_text(unit),
    }


def _period(sim: Simulator, params: Params) -> dict[str, int]:
    period = params.get("period", {"start": sim.now(), "end": sim.now()})
    if period["end"] < period["start"]:
        raise invalid_request(
            "The end of the period must be greater than or equal to its start.",
            param="period[end]",
        )
    return {"start": period["start"], "end": period["end"]}


def _draft(sim: Simulator, invoice: str) -> Answer:
    found = sim.fetch("invoice", invoice, param="invoice")
    if found["status"] != "draft":
        raise invalid_request(
            f"The invoice {invoice} is no longer a draft, so its items cannot change.",
            param="invoice",
            code="invoice_not_editable",
        )
    return found


def _changed(sim: Simulator, item: Answer) -> None:
    from devstack.stripe.resources import invoices

    if item["invoice"]:
        invoices.refresh(sim, sim.fetch("invoice", item["invoice"], param="invoice"))


@operation(
    "POST",
    "/v1/invoiceitems/{invoiceitem}",
    takes="amount description discountable metadata period quantity quantity_decimal "
    "unit_amount_decimal",
)
def update(sim: Simulator, params: Params, *, invoiceitem: str) -> Answer:
    item = sim.fetch(KIND, invoiceitem, param="invoiceitem", in_path=True)
    if item["invoice"]:
        _draft(sim, item["invoice"])
    if {"amount", "unit_amount_decimal", "quantity", "quantity_decimal"} & set(params):
        given: Params = {
            k: v for k, v in params.items() if k.startswith(("amount", "quant", "unit"))
        }
        if "amount" not in given and "unit_amount_decimal" not in given:
            given["unit_amount_decimal"] = Decimal(item["pricing"]["unit_amount_decimal"])
        elif "unit_amount_decimal" in given and not {"quantity", "quantity_decimal"} & set(given):
            given["quantity_decimal"] = Decimal(item["quantity_decimal"])
        amount, unit, quantity = _money(given)
        item |= {
            "amount": amount,
            "pricing": _pricing(unit),
            "quantity": int(quantity),
            "quantity_decimal": decimal_text(quantity),
        }
    if "metadata" in params:
        item["metadata"] = merged_metadata(item["metadata"], params["metadata"])
    if "period" in params:
        item["period"] = _period(sim, params)
    for name in ("description", "discountable"):
        if name in params:
            item[name] = params[name]
    sim.save(item)
    _changed(sim, item)
    return item


@operation("GET", "/v1/invoiceitems/{invoiceitem}")
def retrieve(sim: Simulator, params: Params, *, invoiceitem: str) -> Answer:
    return sim.fetch(KIND, invoiceitem, param="invoiceitem", in_path=True)


@operation("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete(sim: Simulator, params: Params, *, invoiceitem: str) -> Answer:
    item = sim.fetch(KIND, invoiceitem, param="invoiceitem", in_path=True)
    if item["invoice"]:
        _draft(sim, item["invoice"])
    sim.store.remove(KIND, invoiceitem)
    sim.emit("invoiceitem.deleted", item)
    _changed(sim, item)
    return {"id": invoiceitem, "object": KIND, "deleted": True}


@operation("GET", "/v1/invoiceitems", takes=f"{PAGING} customer invoice pending created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        i
        for i in sim.store.rows(KIND)
        if params.get("customer") in (None, i["customer"])
        and params.get("invoice") in (None, i["invoice"])
        and params.get("pending") in (None, i["invoice"] is None)
        and matches_time(i["date"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/invoiceitems")


def of_invoice(sim: Simulator, invoice: str) -> list[Answer]:
    """Items of an invoice, oldest first."""
    return [i for i in sim.store.rows(KIND) if i["invoice"] == invoice]


def pending_of(sim: Simulator, customer: str) -> list[Answer]:
    """Items of a customer that are on no invoice yet."""
    return [i for i in sim.store.rows(KIND) if i["invoice"] is None and i["customer"] == customer]


def line(item: Answer) -> Answer:
    """The invoice line of an item."""
    return answers.blank(
        "line_item",
        id="il_" + item["id"].removeprefix("ii_"),
        amount=item["amount"],
        currency=item["currency"],
        description=item["description"],
        discount_amounts=[],
        discountable=item["discountable"],
        discounts=[],
        invoice=item["invoice"],
        metadata=item["metadata"],
        parent={
            "invoice_item_details": {
                "invoice_item": item["id"],
                "proration": False,
                "proration_details": None,
                "subscription": None,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        period=item["period"],
        pretax_credit_amounts=[],
        pricing=item["pricing"],
        quantity=item["quantity"],
        quantity_decimal=item["quantity_decimal"],
        subtotal=item["amount"],
        taxes=[],
    )
