"""Setup intents: verify a card and save it for off-session use.

Limit: setup attempts are not kept, so `latest_attempt` stays null.
"""

from collections.abc import Callable
from typing import Any

from devstack.stripe import answers
from devstack.stripe.cards import Decline
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, operation
from devstack.stripe.resources import customers, payment_methods

PURPOSES = "setup_purpose"
# Called with the intent after it succeeded; what made the intent registers here.
AFTER_SUCCESS: list[Callable[[Simulator, Answer], None]] = []
CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})


def fetch(sim: Simulator, intent: str) -> Answer:
    """A setup intent named in the path."""
    return sim.fetch("setup_intent", intent, param="intent", in_path=True)


def new_intent(sim: Simulator, **fields: Any) -> Answer:
    """A setup intent that was not confirmed yet, stored, with its event."""
    identifier = sim.new_id("seti")
    values: dict[str, Any] = {
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "client_secret": sim.new_id(f"{identifier}_secret"),
        "created": sim.now(),
        "metadata": {},
        "payment_method_options": {
            "card": {
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": ["card"],
        "usage": "off_session",
    }
    intent = answers.blank(
        "setup_intent",
        id=identifier,
        **(values | fields),
        status="requires_confirmation"
        if fields.get("payment_method")
        else "requires_payment_method",
    )
    sim.save(intent)
    sim.emit("setup_intent.created", intent)
    return intent


def set_up(
    sim: Simulator,
    intent: Answer,
    method: Answer,
    *,
    return_url: str | None = None,
    authenticated: bool = False,
) -> Answer:
    """Verify and attach the card; returns the stored intent or raises 402."""
    card, row = payment_methods.instrument(sim, method["id"])
    intent["payment_method"] = method["id"]
    if not authenticated and card.challenge in {"always", "until_set_up"}:
        intent["status"] = "requires_action"
        intent["next_action"] = {
            "type": "redirect_to_url",
            "redirect_to_url": {
                "url": f"{sim.base_url}/_hosted/authenticate/{intent['id']}",
                "return_url": return_url,
            },
        }
        sim.save(intent)
        sim.emit("setup_intent.requires_action", intent)
        return intent
    if card.declines and not card.attaches:
        raise _fail(sim, intent, method, card.declines)
    if intent["customer"] and method["customer"] is None:
        payment_methods.attach_to(sim, method, intent["customer"])
    sim.store.put(payment_methods.INSTRUMENTS, method["id"], row | {"set_up": True})
    intent |= {"status": "succeeded", "next_action": None, "last_setup_error": None}
    sim.save(intent)
    sim.emit("setup_intent.succeeded", intent)
    for hook in AFTER_SUCCESS:
        hook(sim, intent)
    return intent


def _fail(sim: Simulator, intent: Answer, method: Answer, decline: Decline) -> Exception:
    error = {
        "code": decline.code,
        "decline_code": decline.reason,
        "message": decline.message,
        "payment_method": method,
        "payment_method_type": "card",
        "type": "card_error",
    }
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_setup_error": {k: v for k, v in error.items() if v is not None},
    }
    sim.save(intent)
    sim.emit("setup_intent.setup_failed", intent)
    return payment_methods.declined(decline, setup_intent=intent, payment_method=method)


def authenticate(sim: Simulator, intent: Answer, *, success: bool) -> Answer:
    """The customer's answer to a challenge."""
    method = sim.fetch("payment_method", intent["payment_method"], param="payment_method")
    if success:
        return set_up(sim, intent, method, authenticated=True)
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_setup_error": {
            "code": "setup_intent_authentication_failure",
            "message": "We are unable to authenticate your payment method. Please choose a "
            "different payment method and try again.",
            "payment_method": method,
            "payment_method_type": "card",
            "type": "card_error",
        },
    }
    sim.save(intent)
    sim.emit("setup_intent.setup_failed", intent)
    return intent


@operation(
    "POST",
    "/v1/setup_intents",
    takes="automatic_payment_methods confirm customer description metadata payment_method "
    "return_url usage",
)
def create(sim: Simulator, params: Params) -> Answer:
    fields: Params = {k: params[k] for k in ("description", "usage") if k in params}
    if "automatic_payment_methods" in params:
        given = params["automatic_payment_methods"]
        fields["automatic_payment_methods"] = {"allow_redirects": "always"} | given
    if "customer" in params:
        fields["customer"] = customers.fetch(sim, params["customer"])["id"]
    fields["metadata"] = merged_metadata({}, params.get("metadata"))
    if "payment_method" in params:
        method = payment_methods.resolve(sim, params["payment_method"])
        fields["payment_method"] = method["id"]
    intent = new_intent(sim, **fields)
    return _confirm(sim, intent, params) if params.get("confirm") else intent


@operation("POST", "/v1/setup_intents/{intent}/confirm", takes="payment_method return_url")
def confirm(sim: Simulator, params: Params, *, intent: str) -> Answer:
    found = fetch(sim, intent)
    if sim.store.get(PURPOSES, intent):
        raise invalid_request(
            "You cannot confirm a SetupIntent that was created by a Checkout Session."
        )
    if "payment_method" in params:
        method = payment_methods.resolve(sim, params["payment_method"])
        found["payment_method"] = method["id"]
    return _confirm(sim, found, params)


def _confirm(sim: Simulator, intent: Answer, params: Params) -> Answer:
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected(intent, "confirm")
    if intent["payment_method"] is None:
        raise invalid_request(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
            setup_intent=intent,
        )
    redirects = (intent["automatic_payment_methods"] or {}).get("allow_redirects") != "never"
    if redirects and not params.get("return_url"):
        raise invalid_request(
            "This SetupIntent is configured to accept payment methods that might redirect your "
            "customer off of your page: you must provide a `return_url`, or set "
            "`automatic_payment_methods[allow_redirects]` to `never`.",
            param="return_url",
        )
    method = sim.fetch("payment_method", intent["payment_method"], param="payment_method")
    return set_up(sim, intent, method, return_url=params.get("return_url"))


def _unexpected(intent: Answer, verb: str) -> Exception:
    return invalid_request(
        f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}.",
        code="setup_intent_unexpected_state",
        setup_intent=intent,
    )


@operation("POST", "/v1/setup_intents/{intent}/cancel", takes="cancellation_reason")
def cancel(sim: Simulator, params: Params, *, intent: str) -> Answer:
    found = fetch(sim, intent)
    if sim.store.get(PURPOSES, intent):
        raise invalid_request(
            "You cannot cancel a SetupIntent that was created by a Checkout Session."
        )
    if found["status"] not in CONFIRMABLE:
        raise _unexpected(found, "cancel")
    found |= {
        "status": "canceled",
        "next_action": None,
        "cancellation_reason": params.get("cancellation_reason"),
    }
    sim.save(found)
    sim.emit("setup_intent.canceled", found)
    return found


@operation("GET", "/v1/setup_intents/{intent}")
def retrieve(sim: Simulator, params: Params, *, intent: str) -> Answer:
    return fetch(sim, intent)


@operation("GET", "/v1/setup_intents", takes=f"{PAGING} customer created payment_method")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        i
        for i in sim.store.rows("setup_intent")
        if params.get("customer") in (None, i["customer"])
        and params.get("payment_method") in (None, i["payment_method"])
        and matches_time(i["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/setup_intents")
