"""What happens when a payment intent is confirmed: challenge, decline or money.

Used by the API, by the hosted pages and by invoices. `pay` leaves the intent succeeded or waiting
for a challenge, or raises Stripe's 402 with the failed charge on record.
"""

from collections.abc import Callable
from typing import Any

from devstack.stripe import answers
from devstack.stripe.cards import UNAUTHENTICATED, Decline
from devstack.stripe.core import Simulator
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import Answer
from devstack.stripe.resources import charges, payment_methods

# Stripe's limits for US dollars, in cents.
MIN_AMOUNT = 50
MAX_AMOUNT = 99_999_999
PURPOSES = "purpose"

# Called with the intent after it succeeded; what made the intent registers here.
AFTER_SUCCESS: list[Callable[[Simulator, Answer], None]] = []

CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})


def new_intent(sim: Simulator, *, amount: int, **fields: Any) -> Answer:
    """A payment intent that was not confirmed yet, stored, with its event."""
    if amount < MIN_AMOUNT:
        raise invalid_request(
            "Amount must be at least $0.50 usd", param="amount", code="amount_too_small"
        )
    if amount > MAX_AMOUNT:
        raise invalid_request(
            "Amount must be no more than $999,999.99", param="amount", code="amount_too_large"
        )
    identifier = sim.new_id("pi")
    values: dict[str, Any] = {
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "capture_method": "automatic_async",
        "client_secret": sim.new_id(f"{identifier}_secret"),
        "confirmation_method": "automatic",
        "created": sim.now(),
        "currency": "usd",
        "metadata": {},
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
    }
    intent = answers.blank(
        "payment_intent",
        id=identifier,
        amount=amount,
        **(values | fields),
        status="requires_confirmation"
        if fields.get("payment_method")
        else "requires_payment_method",
    )
    sim.save(intent)
    sim.emit("payment_intent.created", intent)
    return intent


def purpose(sim: Simulator, intent: str) -> dict[str, Any]:
    """What an intent was made for, e.g. {"invoice": id}; empty for one made by the API."""
    return sim.store.get(PURPOSES, intent) or {}


def pay(
    sim: Simulator,
    intent: Answer,
    method: Answer,
    *,
    off_session: bool,
    return_url: str | None = None,
    authenticated: bool = False,
    ask: bool = False,
) -> Answer:
    """Try to take the money; returns the stored intent or raises 402.

    A challenge waits for the customer when the payment is on-session or `ask` says so; else it
    fails at once.
    """
    check_owner(intent, method)
    card, row = payment_methods.instrument(sim, method["id"])
    if row["spent"]:
        raise invalid_request(
            "The provided PaymentMethod was previously used with a PaymentIntent without "
            "Customer attachment, shared with a connected account without Customer attachment, "
            "or was detached from a Customer. It may not be used again."
        )
    intent["payment_method"] = method["id"]
    if not authenticated and _challenged(card.challenge, row["set_up"], off_session=off_session):
        if off_session and not ask:
            raise _fail(sim, intent, method, UNAUTHENTICATED)
        return _challenge(sim, intent, return_url)
    if card.declines:
        raise _fail(sim, intent, method, card.declines)
    return _succeed(sim, intent, method)


def check_owner(intent: Answer, method: Answer) -> None:
    """400 when the card is saved with another customer than the intent's."""
    if method["customer"] is None or method["customer"] == intent["customer"]:
        return
    if intent["customer"] is None:
        raise invalid_request(
            f"The PaymentMethod {method['id']} belongs to the Customer {method['customer']}. "
            "Please include the Customer in the `customer` parameter on the PaymentIntent.",
            param="payment_method",
        )
    raise invalid_request(
        f"The PaymentMethod {method['id']} does not belong to the Customer you supplied "
        f"{intent['customer']}. Please use this PaymentMethod with the Customer that it belongs "
        "to instead.",
        param="payment_method",
    )


def _challenged(challenge: str, set_up: bool, *, off_session: bool) -> bool:
    match challenge:
        case "always":
            return True
        case "until_set_up":
            return not (set_up and off_session)
        case "on_session":
            return not off_session
    return False


def _challenge(sim: Simulator, intent: Answer, return_url: str | None) -> Answer:
    page = f"{sim.base_url}/_hosted/authenticate/{intent['id']}"
    intent["status"] = "requires_action"
    intent["next_action"] = {
        "type": "redirect_to_url",
        "redirect_to_url": {"url": page, "return_url": return_url},
    }
    sim.save(intent)
    sim.emit("payment_intent.requires_action", intent)
    return intent


def _fail(sim: Simulator, intent: Answer, method: Answer, decline: Decline) -> Exception:
    card, _ = payment_methods.instrument(sim, method["id"])
    charge = charges.record(sim, intent, method, card, decline)
    error = {
        "charge": charge["id"],
        "code": decline.code,
        "message": decline.message,
        "payment_method": method,
        "payment_method_type": "card",
        "type": "card_error",
    }
    if decline.reason:
        error["decline_code"] = decline.reason
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_payment_error": error,
        "latest_charge": charge["id"],
        "next_action": None,
    }
    sim.save(intent)
    sim.emit("payment_intent.payment_failed", intent)
    return payment_methods.declined(
        decline, charge=charge["id"], payment_intent=intent, payment_method=method
    )


def _succeed(sim: Simulator, intent: Answer, method: Answer) -> Answer:
    card, row = payment_methods.instrument(sim, method["id"])
    if method["customer"] is None:
        if intent["setup_future_usage"] and intent["customer"]:
            method = payment_methods.attach_to(sim, method, intent["customer"])
        else:
            sim.store.put(payment_methods.INSTRUMENTS, method["id"], row | {"spent": True})
    if intent["setup_future_usage"] == "off_session":
        sim.store.put(payment_methods.INSTRUMENTS, method["id"], row | {"set_up": True})
    charge = charges.record(sim, intent, method, card, None)
    intent |= {
        "status": "succeeded",
        "amount_received": intent["amount"],
        "last_payment_error": None,
        "latest_charge": charge["id"],
        "next_action": None,
    }
    sim.save(intent)
    sim.emit("payment_intent.succeeded", intent)
    for hook in AFTER_SUCCESS:
        hook(sim, intent)
    return intent


def authenticate(sim: Simulator, intent: Answer, *, success: bool) -> Answer:
    """The customer's answer to a challenge; a later decline of the card raises 402."""
    method = sim.fetch("payment_method", intent["payment_method"], param="payment_method")
    if success:
        return pay(sim, intent, method, off_session=False, authenticated=True)
    message = (
        "We are unable to authenticate your payment method. Please choose a different payment "
        "method and try again."
    )
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": {
            "code": "payment_intent_authentication_failure",
            "message": message,
            "payment_method": method,
            "payment_method_type": "card",
            "type": "card_error",
        },
    }
    sim.save(intent)
    sim.emit("payment_intent.payment_failed", intent)
    return intent


def cancel(sim: Simulator, intent: Answer, reason: str | None) -> Answer:
    """Cancel an intent that has not succeeded; 400 otherwise."""
    if intent["status"] in {"succeeded", "canceled"}:
        raise unexpected(
            intent,
            "cancel",
            "Only a PaymentIntent with one of the following statuses may be "
            "canceled: requires_payment_method, requires_capture, requires_reauthorization, "
            "requires_confirmation, requires_action, processing.",
        )
    intent |= {
        "status": "canceled",
        "canceled_at": sim.now(),
        "cancellation_reason": reason,
        "next_action": None,
    }
    sim.save(intent)
    sim.emit("payment_intent.canceled", intent)
    return intent


def unexpected(intent: Answer, verb: str, why: str = "") -> Exception:
    """400 payment_intent_unexpected_state, carrying the intent as Stripe does."""
    return invalid_request(
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}. "
        + why,
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )
