"""Tax amounts that the caller worked out itself, set on the lines of a draft.

Stripe takes them as they are, whatever their rate says. Each names a tax rate, which is found or
made from its data, archived at once.
"""

import json
from decimal import Decimal
from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import Answer, Params, only, operation

TABLE = "manual_taxes"  # invoice -> line -> its taxes
MOST = 20
RATE = "tax_rate"
_DATA = (
    "country description display_name inclusive jurisdiction jurisdiction_level percentage state "
    "tax_type"
)


@operation("POST", "/v1/invoices/{invoice}/update_lines", takes="lines")
def update_lines(sim: Simulator, params: Params, *, invoice: str) -> Answer:
    from devstack.stripe.resources import invoices

    found = invoices.fetch(sim, invoice)
    invoices.need(found, "edit", "draft")
    known = {line["id"] for line in invoices.lines_of(sim, invoice)}
    taxes = of(sim, invoice)
    for number, line in enumerate(params["lines"]):
        where = f"lines[{number}]"
        only(line, "id tax_amounts", where)
        if line["id"] not in known:
            raise invalid_request(
                f"No such invoice line item: '{line['id']}'", param=f"{where}[id]"
            )
        if found["automatic_tax"]["enabled"]:
            raise invalid_request(
                "You cannot set tax amounts on an invoice that uses automatic tax.",
                param=f"{where}[tax_amounts]",
            )
        amounts = line.get("tax_amounts") or []
        if len(amounts) > MOST:
            raise invalid_request(
                f"A line item has at most {MOST} tax amounts.", param=f"{where}[tax_amounts]"
            )
        taxes[line["id"]] = [_tax(sim, one, f"{where}[tax_amounts]") for one in amounts]
    sim.store.put(TABLE, invoice, taxes)
    found = invoices.refresh(sim, found)
    sim.emit("invoice.updated", found)
    return found


def of(sim: Simulator, invoice: str) -> dict[str, Any]:
    """Taxes by line."""
    return dict(sim.store.get(TABLE, invoice) or {})


def totals(parts: list[Answer]) -> list[Answer]:
    """What an invoice shows of the taxes of its lines: one entry per rate and reason."""
    summed: dict[tuple[Any, ...], Answer] = {}
    for part in parts:
        rate = (part["tax_rate_details"] or {}).get("tax_rate")
        one = summed.setdefault(
            (rate, part["taxability_reason"]), {**part, "amount": 0, "taxable_amount": 0}
        )
        one["amount"] += part["amount"]
        one["taxable_amount"] += part["taxable_amount"]
    return list(summed.values())


def _tax(sim: Simulator, given: Params, where: str) -> Answer:
    only(given, "amount tax_rate_data taxability_reason taxable_amount", where)
    data = given["tax_rate_data"]
    only(data, _DATA, f"{where}[tax_rate_data]")
    if data["inclusive"]:
        raise invalid_request(
            "Tax amounts on lines with exclusive prices must be exclusive.", param=where
        )
    if not 0 <= Decimal(str(data["percentage"])) <= 100:
        raise invalid_request(
            "A percentage is between 0 and 100.", param=f"{where}[tax_rate_data][percentage]"
        )
    return {
        "amount": given["amount"],
        "tax_behavior": "exclusive",
        "tax_rate_details": {"tax_rate": _rate(sim, data)["id"]},
        "taxability_reason": given.get("taxability_reason", "not_available"),
        "taxable_amount": given["taxable_amount"],
        "type": "tax_rate_details",
    }


def _rate(sim: Simulator, data: Params) -> Answer:
    """The rate with exactly this data, made if there is none."""
    text = json.dumps(data, sort_keys=True, default=str)
    for rate in sim.store.rows(RATE):
        if (sim.store.get("tax_rate_data", rate["id"]) or {}).get("text") == text:
            return rate
    percentage = float(data["percentage"])  # a number in Stripe's own answer
    made = answers.blank(
        RATE,
        id=sim.new_id("txr"),
        active=False,
        created=sim.now(),
        metadata={},
        rate_type="percentage",
        **({"effective_percentage": percentage} | dict(data) | {"percentage": percentage}),
    )
    sim.store.put("tax_rate_data", made["id"], {"text": text})
    return sim.save(made)


@operation("GET", "/v1/tax_rates/{tax_rate}")
def retrieve(sim: Simulator, params: Params, *, tax_rate: str) -> Answer:
    return sim.fetch(RATE, tax_rate, param="tax_rate", in_path=True)
