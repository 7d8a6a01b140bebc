"""Payment intents: create, update, confirm (on and off session), cancel, list."""

from devstack.stripe import payments
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, only, operation
from devstack.stripe.resources import customers, payment_methods

_CONFIRM = "off_session payment_method receipt_email return_url setup_future_usage"


def fetch(sim: Simulator, intent: str) -> Answer:
    """An intent named in the path."""
    return sim.fetch("payment_intent", intent, param="intent", in_path=True)


@operation(
    "POST",
    "/v1/payment_intents",
    takes="amount currency customer description metadata confirm capture_method "
    f"automatic_payment_methods statement_descriptor_suffix {_CONFIRM}",
)
def create(sim: Simulator, params: Params) -> Answer:
    confirm = params.get("confirm", False)
    for name in ("off_session", "return_url"):
        if name in params and not confirm:
            raise invalid_request(f"You can only pass `{name}` when `confirm` is true.", param=name)
    if params.get("capture_method") == "manual":
        raise not_simulated("capture_method=manual")
    fields: Params = {
        k: params[k]
        for k in (
            "description",
            "receipt_email",
            "setup_future_usage",
            "capture_method",
            "statement_descriptor_suffix",
        )
        if k in params
    }
    if "automatic_payment_methods" in params:
        given = params["automatic_payment_methods"]
        fields["automatic_payment_methods"] = {"allow_redirects": "always"} | given
    if "customer" in params:
        fields["customer"] = customers.fetch(sim, params["customer"])["id"]
    fields["metadata"] = merged_metadata({}, params.get("metadata"))
    method = None
    if "payment_method" in params:
        method = payment_methods.resolve(sim, params["payment_method"])
        fields["payment_method"] = method["id"]
        payments.check_owner({"customer": None, **fields}, method)
    usd_only(params["currency"])
    intent = payments.new_intent(sim, amount=params["amount"], **fields)
    return _confirm(sim, intent, params) if confirm else intent


@operation("POST", "/v1/payment_intents/{intent}/confirm", takes=_CONFIRM)
def confirm(sim: Simulator, params: Params, *, intent: str) -> Answer:
    found = fetch(sim, intent)
    if payments.purpose(sim, intent).get("checkout"):
        raise invalid_request(
            "You cannot confirm a PaymentIntent that was created by a Checkout Session."
        )
    if "payment_method" in params:
        method = payment_methods.resolve(sim, params["payment_method"])
        payments.check_owner(found, method)
        found["payment_method"] = method["id"]
    for name in ("receipt_email", "setup_future_usage"):
        if name in params:
            found[name] = params[name] or None
    return _confirm(sim, found, params)


def _confirm(sim: Simulator, intent: Answer, params: Params) -> Answer:
    if intent["status"] not in payments.CONFIRMABLE:
        raise payments.unexpected(intent, "confirm")
    if intent["payment_method"] is None:
        raise invalid_request(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You "
            "can either update the PaymentIntent with a payment method and then confirm it "
            "again, or confirm it again directly with a payment method or ConfirmationToken.",
            code="payment_intent_unexpected_state",
            payment_intent=intent,
        )
    off_session = params.get("off_session", False)
    if off_session not in (True, False):
        raise not_simulated(f"off_session={off_session}")
    redirects = (intent["automatic_payment_methods"] or {}).get("allow_redirects") != "never"
    if not off_session and redirects and not params.get("return_url"):
        raise invalid_request(
            "This PaymentIntent is configured to accept payment methods enabled in your "
            "Dashboard. Because some of these payment methods might redirect your customer off "
            "of your page, you must provide a `return_url`. If you don't want to accept "
            "redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` "
            "and `automatic_payment_methods[allow_redirects]` to `never`.",
            param="return_url",
        )
    method = sim.fetch("payment_method", intent["payment_method"], param="payment_method")
    return payments.pay(
        sim, intent, method, off_session=off_session, return_url=params.get("return_url")
    )


@operation(
    "POST",
    "/v1/payment_intents/{intent}",
    takes="amount currency customer description metadata payment_method receipt_email "
    "setup_future_usage statement_descriptor_suffix",
)
def update(sim: Simulator, params: Params, *, intent: str) -> Answer:
    found = fetch(sim, intent)
    if found["status"] in {"succeeded", "canceled"} and set(params) - {"metadata", "description"}:
        raise payments.unexpected(found, "update")
    if "currency" in params:
        usd_only(params["currency"])
    if "customer" in params:
        found["customer"] = customers.fetch(sim, params["customer"])["id"]
    if "payment_method" in params:
        method = payment_methods.resolve(sim, params["payment_method"])
        payments.check_owner(found, method)
        found["payment_method"] = method["id"]
        found["status"] = "requires_confirmation"
    if "metadata" in params:
        found["metadata"] = merged_metadata(found["metadata"], params["metadata"])
    if "amount" in params:
        if not payments.MIN_AMOUNT <= params["amount"] <= payments.MAX_AMOUNT:
            raise invalid_request(
                "Amount must be at least $0.50 usd and no more than $999,999.99",
                param="amount",
                code="amount_too_small",
            )
        found["amount"] = params["amount"]
    for name in (
        "description",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor_suffix",
    ):
        if name in params:
            found[name] = params[name] or None
    return sim.save(found)


@operation("POST", "/v1/payment_intents/{intent}/cancel", takes="cancellation_reason")
def cancel(sim: Simulator, params: Params, *, intent: str) -> Answer:
    found = fetch(sim, intent)
    for owner in ("invoice", "checkout"):
        if payments.purpose(sim, intent).get(owner):
            raise invalid_request(
                f"You cannot cancel a PaymentIntent that belongs to {owner}: "
                "void the invoice or expire the session instead.",
                code="payment_intent_unexpected_state",
            )
    return payments.cancel(sim, found, params.get("cancellation_reason"))


@operation("GET", "/v1/payment_intents/{intent}")
def retrieve(sim: Simulator, params: Params, *, intent: str) -> Answer:
    only(params, "expand")
    return fetch(sim, intent)


@operation("GET", "/v1/payment_intents", takes=f"{PAGING} customer created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        i
        for i in sim.store.rows("payment_intent")
        if params.get("customer") in (None, i["customer"])
        and matches_time(i["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/payment_intents")
