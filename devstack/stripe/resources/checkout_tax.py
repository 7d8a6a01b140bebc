"""What automatic tax adds to a Checkout session, as soon as it is known where the customer is."""

from devstack.stripe import tax
from devstack.stripe.core import Simulator
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import Answer, Params, only
from devstack.stripe.resources import customers

LINES = "checkout_lines"


def ask(sim: Simulator, session: Answer, params: Params) -> None:
    """Note on a new session whether it is taxed and where the customer is; 400 when that can
    never be known."""
    only(params.get("automatic_tax", {}), "enabled", "automatic_tax")
    update = params.get("customer_update", {})
    if update and not session["customer"]:
        raise invalid_request(
            "`customer_update` can only be used with `customer`.", param="customer_update"
        )
    session["billing_address_collection"] = params.get("billing_address_collection")
    if not params.get("automatic_tax", {}).get("enabled"):
        return
    known = tax.located(sim.find("customer", session["customer"] or ""))
    if session["customer"] and not known and update.get("address") != "auto":
        raise invalid_request(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add "
            "a valid address to the Customer or set `customer_update[address]` to 'auto' to save "
            "the address entered in Checkout to the Customer.",
            code="customer_tax_location_invalid",
        )
    session["automatic_tax"] = {
        "enabled": True,
        "liability": {"account": None, "type": "self"},
        "provider": "stripe",
        "status": "complete" if known else "requires_location_inputs",
    }


def add(sim: Simulator, session: Answer) -> None:
    """Add the tax of each line to the session's totals."""
    owner = sim.find("customer", session["customer"] or "") or {}
    stored = sim.store.get(LINES, session["id"]) or {"lines": []}
    for line in stored["lines"]:
        part = tax.on(sim, owner.get("tax_exempt", "none"), line["amount_subtotal"])
        line |= {
            "amount_tax": part["amount"],
            "amount_total": line["amount_subtotal"] + part["amount"],
        }
    sim.store.put(LINES, session["id"], stored)
    total = sum(line["amount_tax"] for line in stored["lines"])
    session["automatic_tax"]["status"] = "complete"
    session["total_details"]["amount_tax"] = total
    session["amount_total"] = session["amount_subtotal"] + total


def asks_address(session: Answer) -> bool:
    """True while the page must ask where the customer is."""
    wanted = session["billing_address_collection"] == "required"
    return wanted or bool(session["automatic_tax"]["status"] == "requires_location_inputs")


def locate(sim: Simulator, session: Answer, address: Answer) -> Answer:
    """The customer said where: tax is known now, and the total with it."""
    stored = sim.store.get(LINES, session["id"]) or {}
    if session["customer"] and stored.get("keep_address"):
        customers.update(sim, {"address": address}, customer=session["customer"])
    if session["automatic_tax"]["status"] == "requires_location_inputs":
        add(sim, session)
    return sim.save(session)
