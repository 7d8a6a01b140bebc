"""Payment methods: cards by Stripe's test names or tokens, attached to customers.

What a card does is in a hidden row beside the object (`instrument`): its number and whether it
was set up with a challenge.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from devstack.stripe import answers
from devstack.stripe.cards import BY_NAME, BY_NUMBER, Card, Decline
from devstack.stripe.core import Simulator, merged_metadata
from devstack.stripe.errors import StripeError, invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, only, operation
from devstack.stripe.resources import customers

INSTRUMENTS = "instrument"
_BILLING = "address email name phone tax_id"


def new_card(
    sim: Simulator,
    card: Card,
    billing: Params | None = None,
    expires: tuple[int, int] | None = None,
) -> Answer:
    """A payment method for a test card, stored and not attached; `expires` is (month, year)."""
    month, year = expires or (12, datetime.fromtimestamp(sim.now(), UTC).year + 2)
    method = answers.blank(
        "payment_method",
        id=sim.new_id("pm"),
        type="card",
        created=sim.now(),
        metadata={},
        allow_redisplay="unspecified",
        billing_details=_billing_details(billing or {}),
        card={
            "brand": card.brand,
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "pass",
            },
            "country": card.country,
            "display_brand": card.brand,
            "exp_month": month,
            "exp_year": year,
            "fingerprint": hashlib.sha256(card.number.encode()).hexdigest()[:16],
            "funding": card.funding,
            "generated_from": None,
            "last4": card.last4,
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
    )
    sim.save(method)
    row = {"number": card.number, "set_up": card.challenge == "on_session", "spent": False}
    sim.store.put(INSTRUMENTS, method["id"], row)
    return method


def _billing_details(given: Params) -> dict[str, Any]:
    only(given, _BILLING, "billing_details")
    blank: dict[str, Any] = dict.fromkeys(_BILLING.split())
    blank["address"] = dict.fromkeys(customers.ADDRESS.split())
    details = {**blank, **{k: v if v != "" else None for k, v in given.items()}}
    details["address"] = {**blank["address"], **(details["address"] or {})}
    return details


def resolve(sim: Simulator, identifier: str, *, param: str = "payment_method") -> Answer:
    """A payment method by id; each use of a test name makes a new one, as at Stripe."""
    if identifier.startswith("pm_card_"):
        card = BY_NAME.get(identifier)
        if card is None:
            raise not_simulated(f"the test payment method {identifier}")
        return new_card(sim, card)
    return sim.fetch("payment_method", identifier, param=param)


def instrument(sim: Simulator, method: str) -> tuple[Card, dict[str, Any]]:
    """The test card behind a payment method, and its hidden row."""
    row = sim.store.get(INSTRUMENTS, method)
    assert row is not None, "every payment method is made by new_card"
    return BY_NUMBER[row["number"]], row


def declined(decline: Decline, **more: Any) -> StripeError:
    """402 with the card's reason; what was written stays written."""
    return StripeError(
        402,
        decline.message,
        kind="card_error",
        code=decline.code,
        decline_code=decline.reason,
        keeps_effects=True,
        **more,
    )


def attach_to(sim: Simulator, method: Answer, customer: str) -> Answer:
    """Attach and store; 402 for cards that decline on attaching, 400 if it is another's."""
    if method["customer"] not in (None, customer):
        raise invalid_request(
            "The payment method you provided has already been attached to a customer."
        )
    card, row = instrument(sim, method["id"])
    if row["spent"]:
        raise invalid_request(
            "This PaymentMethod was previously used without being attached to a Customer or was "
            "detached from a Customer, and may not be used again."
        )
    if card.declines and not card.attaches:
        error = declined(card.declines)
        error.keeps_effects = False
        raise error
    if method["customer"] is None:
        method["customer"] = customer
        sim.save(method)
        sim.emit("payment_method.attached", method)
    return method


def detach_from(sim: Simulator, method: Answer) -> Answer:
    """Detach and store; a detached card cannot be used again."""
    owner = method["customer"]
    method["customer"] = None
    sim.save(method)
    _, row = instrument(sim, method["id"])
    sim.store.put(INSTRUMENTS, method["id"], row | {"spent": True})
    customer = sim.find("customer", owner)
    if customer and not customer.get("deleted"):
        settings = customer["invoice_settings"]
        if settings["default_payment_method"] == method["id"]:
            settings["default_payment_method"] = None
            sim.save(customer)
    sim.emit("payment_method.detached", method, {"customer": owner})
    return method


@operation(
    "POST", "/v1/payment_methods", takes="type card billing_details metadata allow_redisplay"
)
def create(sim: Simulator, params: Params) -> Answer:
    if params.get("type") != "card":
        raise not_simulated(f"payment methods of type {params.get('type')}")
    given = params.get("card", {})
    if "number" in given:
        raise StripeError(
            402,
            "Sending credit card numbers directly to the Stripe API is generally unsafe. We "
            "suggest you use test tokens that map to the test card you are using.",
        )
    only(given, "token", "card")
    card = BY_NAME.get(given.get("token", ""))
    if card is None:
        raise invalid_request(
            f"No such token: '{given.get('token', '')}'",
            code="resource_missing",
            param="card[token]",
        )
    method = new_card(sim, card, params.get("billing_details"))
    method["metadata"] = merged_metadata({}, params.get("metadata"))
    method["allow_redisplay"] = params.get("allow_redisplay", "unspecified")
    return sim.save(method)


@operation("GET", "/v1/payment_methods/{payment_method}")
def retrieve(sim: Simulator, params: Params, *, payment_method: str) -> Answer:
    return sim.fetch("payment_method", payment_method, param="payment_method", in_path=True)


@operation(
    "POST",
    "/v1/payment_methods/{payment_method}",
    takes="billing_details metadata allow_redisplay",
)
def update(sim: Simulator, params: Params, *, payment_method: str) -> Answer:
    method = sim.fetch("payment_method", payment_method, param="payment_method", in_path=True)
    if method["customer"] is None:
        raise invalid_request(
            "You must save this PaymentMethod to a customer before you can update it."
        )
    if "metadata" in params:
        method["metadata"] = merged_metadata(method["metadata"], params["metadata"])
    if "billing_details" in params:
        method["billing_details"] = _billing_details(
            method["billing_details"] | params["billing_details"]
        )
    method["allow_redisplay"] = params.get("allow_redisplay", method["allow_redisplay"])
    sim.save(method)
    sim.emit("payment_method.updated", method)
    return method


@operation("POST", "/v1/payment_methods/{payment_method}/attach", takes="customer")
def attach(sim: Simulator, params: Params, *, payment_method: str) -> Answer:
    if "customer" not in params:
        raise invalid_request(
            "Missing required param: customer.", param="customer", code="parameter_missing"
        )
    method = resolve(sim, payment_method)
    return attach_to(sim, method, customers.fetch(sim, params["customer"])["id"])


@operation("POST", "/v1/payment_methods/{payment_method}/detach")
def detach(sim: Simulator, params: Params, *, payment_method: str) -> Answer:
    method = sim.fetch("payment_method", payment_method, param="payment_method", in_path=True)
    if method["customer"] is None:
        raise invalid_request(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible."
        )
    return detach_from(sim, method)


def _of(sim: Simulator, customer: str, params: Params) -> list[Answer]:
    if params.get("type") not in (None, "card"):
        return []
    return [m for m in sim.store.rows("payment_method") if m["customer"] == customer]


@operation("GET", "/v1/payment_methods", takes=f"{PAGING} customer type")
def listing(sim: Simulator, params: Params) -> Answer:
    if "customer" not in params:
        return sim.page([], params, "/v1/payment_methods")
    customer = customers.fetch(sim, params["customer"])["id"]
    return sim.page(_of(sim, customer, params), params, "/v1/payment_methods")


@operation("GET", "/v1/customers/{customer}/payment_methods", takes=f"{PAGING} type")
def of_customer(sim: Simulator, params: Params, *, customer: str) -> Answer:
    owner = customers.fetch(sim, customer, in_path=True)["id"]
    return sim.page(_of(sim, owner, params), params, f"/v1/customers/{owner}/payment_methods")


@operation("GET", "/v1/customers/{customer}/payment_methods/{payment_method}")
def one_of_customer(
    sim: Simulator, params: Params, *, customer: str, payment_method: str
) -> Answer:
    customers.fetch(sim, customer, in_path=True)
    method = sim.fetch("payment_method", payment_method, param="payment_method", in_path=True)
    if method["customer"] != customer:
        raise StripeError(
            404,
            f"No such PaymentMethod: '{payment_method}'",
            code="resource_missing",
            param="payment_method",
        )
    return method
