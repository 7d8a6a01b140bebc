"""Automatic tax: one exclusive rate for every place, set by `control.order("tax", percentage=...)`.

Without the order the account collects no tax and everything is taxed with zero, as an account
without registrations. Each line is taxed and rounded half up by itself. What is real: a place is
needed before tax can be known, and customers who are exempt or owe the tax themselves pay none.
"""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from devstack.stripe.core import Simulator
from devstack.stripe.errors import StripeError, invalid_request
from devstack.stripe.registry import Answer, included, order

TABLE = "tax_rate_set"


@order("tax")
def collect(sim: Simulator, *, percentage: str) -> None:
    """Collect this percentage, e.g. "19" or "8.875", from now on."""
    try:
        rate = Decimal(percentage)
    except InvalidOperation:
        raise ValueError(f"{percentage!r} is no percentage") from None
    if not 0 <= rate <= 100:
        raise ValueError("a percentage is between 0 and 100")
    sim.store.put(TABLE, "rate", {"percentage": str(rate)})


def on(sim: Simulator, exempt: str, cents: int) -> Answer:
    """The tax on one line for a customer with that `tax_exempt`, as invoices show it."""
    row = sim.store.get(TABLE, "rate")
    reason = {"exempt": "customer_exempt", "reverse": "reverse_charge"}.get(exempt)
    reason = reason or ("not_collecting" if row is None else "standard_rated")
    rate = Decimal(row["percentage"]) if row and reason == "standard_rated" else Decimal(0)
    amount = (cents * rate / 100).quantize(Decimal(1), ROUND_HALF_UP)
    return {
        "amount": int(amount),
        "tax_behavior": "exclusive",
        "tax_rate_details": None,
        "taxability_reason": reason,
        "taxable_amount": cents if reason == "standard_rated" else 0,
        "type": "tax_rate_details",
    }


def percentage(sim: Simulator) -> str:
    """The rate that is collected, as Stripe prints it."""
    row = sim.store.get(TABLE, "rate")
    return str(row["percentage"]) if row else "0.0"


def located(customer: Answer | None) -> bool:
    """True when tax can be known: the customer has a country."""
    return bool(customer and (customer.get("address") or {}).get("country"))


def no_place() -> StripeError:
    """400: tax cannot be known without an address."""
    return invalid_request(
        "The customer's location isn't recognized. Set a valid customer address in order to "
        "automatically calculate tax.",
        code="customer_tax_location_invalid",
    )


@included("customer", "tax")
def _tax(sim: Simulator, customer: Answer) -> dict[str, Any]:
    known = located(customer)
    address = customer["address"] or {}
    place = {"country": address["country"], "source": "billing_address", "state": address["state"]}
    return {
        "automatic_tax": "supported" if known else "unrecognized_location",
        "ip_address": None,
        "location": place if known else None,
        "provider": "stripe",
    }
