"""Tax calculations: what tax would be, charged nowhere. They expire after 90 days.

Exclusive amounts only; shipping is not simulated. Where no rate is ordered the account collects
nothing, and a customer's `tax_exempt` or the call's `taxability_override` takes all tax away.
"""

from typing import Any

from devstack.stripe import answers, tax
from devstack.stripe.core import Simulator, usd_only
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, included, only, operation
from devstack.stripe.resources import customers, tax_ids

KIND = "tax.calculation"
LIFE_S = 90 * 24 * 3600
LINES = "tax_calculation_lines"
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_OVERRIDES = {"customer_exempt": "exempt", "reverse_charge": "reverse"}
_DEFAULT_CODE = "txcd_10000000"  # electronically supplied services: an account's default


@operation(
    "POST",
    "/v1/tax/calculations",
    takes="currency customer customer_details line_items tax_date",
)
def create(sim: Simulator, params: Params) -> Answer:
    usd_only(params["currency"])
    details, exempt = _who(sim, params)
    if not (details["address"] or {}).get("country"):
        raise tax.no_place()
    lines = [_line(sim, one, number, exempt) for number, one in enumerate(params["line_items"])]
    if len({line["reference"] for line in lines}) < len(lines):
        raise invalid_request("Line item references must be unique.", param="line_items")
    net, taxed = (sum(line[name] for line in lines) for name in ("amount", "amount_tax"))
    found = answers.blank(
        KIND,
        id=sim.new_id("taxcalc"),
        amount_total=net + taxed,
        currency="usd",
        customer=params.get("customer"),
        customer_details=details,
        expires_at=sim.now() + LIFE_S,
        tax_amount_exclusive=taxed,
        tax_amount_inclusive=0,
        tax_breakdown=[_breakdown(sim, exempt, net, taxed, details)],
        tax_date=params.get("tax_date", sim.now()),
    )
    sim.store.put(LINES, found["id"], {"lines": lines})
    return sim.save(found)


def _who(sim: Simulator, params: Params) -> tuple[Answer, str]:
    """The customer's details, and its exemption as customers have it."""
    address: Any
    source: Any
    given: Params = params.get("customer_details", {})
    only(given, "address address_source tax_ids taxability_override", "customer_details")
    if "customer" in params:
        if "address" in given or "tax_ids" in given:
            raise invalid_request(
                "You may only specify one of these parameters: customer, customer_details.",
                code="parameters_exclusive",
                param="customer_details",
            )
        owner = customers.fetch(sim, params["customer"])
        ids = [{"type": t["type"], "value": t["value"]} for t in tax_ids.of(sim, owner["id"])]
        address, source, exempt = owner["address"], "billing", str(owner["tax_exempt"])
    else:
        ids, exempt = given.get("tax_ids", []), "none"
        address, source = given.get("address"), given.get("address_source")
        if address and not source:
            raise invalid_request(
                "Missing required param: customer_details[address_source].",
                code="parameter_missing",
                param="customer_details[address_source]",
            )
    override = given.get("taxability_override", "none")
    details = {
        "address": address and dict.fromkeys(_ADDRESS) | address,
        "address_source": source,
        "ip_address": None,
        "tax_ids": ids,
        "taxability_override": override,
    }
    return details, _OVERRIDES.get(override, exempt)


def _line(sim: Simulator, given: Params, number: int, exempt: str) -> Answer:
    only(given, "amount metadata quantity reference tax_behavior tax_code", "line_items")
    if given.get("tax_behavior", "exclusive") != "exclusive":
        raise not_simulated("tax_behavior=inclusive")
    return answers.blank(
        "tax.calculation_line_item",
        id=sim.new_id("tax_li"),
        amount=given["amount"],
        amount_tax=tax.on(sim, exempt, given["amount"])["amount"],
        metadata=given.get("metadata"),
        quantity=given.get("quantity", 1),
        reference=given.get("reference", f"L{number + 1}"),
        tax_behavior="exclusive",
        tax_code=given.get("tax_code", _DEFAULT_CODE),
    )


def _breakdown(
    sim: Simulator, exempt: str, net: int, taxed: int, details: Answer
) -> dict[str, Any]:
    part = tax.on(sim, exempt, net)
    reason = part["taxability_reason"]
    rated = reason == "standard_rated"
    return {
        "amount": taxed,
        "inclusive": False,
        "tax_rate_details": {
            "country": details["address"]["country"],
            "flat_amount": None,
            "percentage_decimal": tax.percentage(sim) if rated else "0.0",
            "rate_type": "percentage" if rated else None,
            "state": details["address"]["state"],
            "tax_type": "vat" if rated else None,
        },
        "taxability_reason": reason,
        "taxable_amount": part["taxable_amount"],
    }


@operation("GET", "/v1/tax/calculations/{calculation}")
def retrieve(sim: Simulator, params: Params, *, calculation: str) -> Answer:
    return live(sim, calculation, in_path=True)


@operation("GET", "/v1/tax/calculations/{calculation}/line_items", takes=PAGING)
def line_items(sim: Simulator, params: Params, *, calculation: str) -> Answer:
    found = live(sim, calculation, in_path=True)
    url = f"/v1/tax/calculations/{calculation}/line_items"
    return sim.page(lines_of(sim, found), params, url, newest_first=False)


@included(KIND, "line_items")
def _lines(sim: Simulator, found: Answer) -> Answer:
    url = f"/v1/tax/calculations/{found['id']}/line_items"
    return sim.page(lines_of(sim, found), {}, url, newest_first=False)


def live(sim: Simulator, calculation: str, *, in_path: bool = False) -> Answer:
    """A calculation that has not expired; 404 or 400 as for one that never was."""
    found = sim.fetch(KIND, calculation, param="calculation", in_path=in_path)
    if found["expires_at"] <= sim.now():
        raise invalid_request(
            f"The tax calculation {calculation} has expired. Create a new one.",
            param="calculation",
        )
    return found


def lines_of(sim: Simulator, found: Answer) -> list[Answer]:
    """Its lines in their order."""
    rows: list[Answer] = (sim.store.get(LINES, found["id"]) or {"lines": []})["lines"]
    return rows
