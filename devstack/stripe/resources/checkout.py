"""Checkout sessions, modes payment and setup, with the hosted page behind `url`.

The payment intent of a payment session is made at the first attempt to pay, the setup intent of
a setup session with the session, as at Stripe.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import urlsplit

from devstack.stripe import answers, payments
from devstack.stripe.cards import Card
from devstack.stripe.core import Simulator, matches_time, merged_metadata, usd_only
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, included, only, operation
from devstack.stripe.resources import checkout_tax, customers, payment_methods, setup_intents

KIND = "checkout.session"
LIFETIME_S = 24 * 3600
SHORTEST_S = 30 * 60
_INTENT_DATA = "description metadata receipt_email setup_future_usage statement_descriptor_suffix"


@operation(
    "POST",
    "/v1/checkout/sessions",
    takes="mode line_items customer customer_email customer_creation client_reference_id "
    "metadata success_url cancel_url expires_at submit_type ui_mode currency locale "
    "payment_intent_data setup_intent_data automatic_tax customer_update "
    "billing_address_collection",
)
def create(sim: Simulator, params: Params) -> Answer:
    mode = params.get("mode", "payment")
    if mode == "subscription":
        raise not_simulated("Checkout in mode=subscription")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise not_simulated(f"Checkout with ui_mode={params['ui_mode']}")
    _check_urls(params)
    identifier = sim.new_id("cs_test", 58)
    session = answers.blank(
        KIND,
        id=identifier,
        automatic_tax={"enabled": False, "liability": None, "provider": None, "status": None},
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        created=sim.now(),
        custom_fields=[],
        custom_text={
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        customer_email=params.get("customer_email"),
        expires_at=_expiry(sim, params),
        locale=params.get("locale"),
        metadata=merged_metadata({}, params.get("metadata")),
        mode=mode,
        payment_method_options={},
        payment_method_types=["card"],
        shipping_options=[],
        status="open",
        submit_type=params.get("submit_type"),
        success_url=params["success_url"],
        ui_mode="hosted_page",
        url=f"{sim.base_url}/c/pay/{identifier}",
    )
    if "customer" in params and "customer_email" in params:
        raise invalid_request(
            "You may only specify one of these parameters: customer, customer_email.",
            code="parameters_exclusive",
        )
    if "customer" in params:
        session["customer"] = customers.fetch(sim, params["customer"])["id"]
    start = _start_payment if mode == "payment" else _start_setup
    start(sim, session, params)
    sim.save(session)
    return session


def _check_urls(params: Params) -> None:
    if "success_url" not in params:
        raise invalid_request(
            "Missing required param: success_url.", param="success_url", code="parameter_missing"
        )
    for name in ("success_url", "cancel_url"):
        parts = urlsplit(params.get(name, "https://example.com/"))
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise invalid_request("Not a valid URL", param=name, code="url_invalid")


def _expiry(sim: Simulator, params: Params) -> int:
    wanted = params.get("expires_at", sim.now() + LIFETIME_S)
    if not SHORTEST_S <= wanted - sim.now() <= LIFETIME_S:
        raise invalid_request(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout "
            "Session creation.",
            param="expires_at",
        )
    return int(wanted)


def _start_payment(sim: Simulator, session: Answer, params: Params) -> None:
    for name in ("setup_intent_data",):
        if name in params:
            raise invalid_request(f"You can not pass `{name}` in `payment` mode.", param=name)
    only(params.get("payment_intent_data", {}), _INTENT_DATA, "payment_intent_data")
    lines = [_line(sim, item, n) for n, item in enumerate(params.get("line_items", []))]
    if not lines:
        raise invalid_request(
            "Missing required param: line_items.", param="line_items", code="parameter_missing"
        )
    checkout_tax.ask(sim, session, params)
    subtotal = sum(line["amount_subtotal"] for line in lines)
    if subtotal < payments.MIN_AMOUNT:
        raise invalid_request(
            "The Checkout Session's total amount must convert to at least 50 cents.",
            code="amount_too_small",
        )
    sim.store.put(
        checkout_tax.LINES,
        session["id"],
        {
            "lines": lines,
            "intent": params.get("payment_intent_data", {}),
            "keep_address": params.get("customer_update", {}).get("address") == "auto",
        },
    )
    session |= {
        "amount_subtotal": subtotal,
        "amount_total": subtotal,
        "currency": "usd",
        "customer_creation": None
        if session["customer"]
        else params.get("customer_creation", "if_required"),
        "payment_status": "unpaid",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    }
    if session["automatic_tax"]["status"] == "complete":
        checkout_tax.add(sim, session)


def _line(sim: Simulator, item: Params, number: int) -> Answer:
    where = f"line_items[{number}]"
    only(item, "price_data quantity", where)
    if "price_data" not in item:
        raise not_simulated(f"{where} without price_data")
    price = item["price_data"]
    only(
        price,
        "currency unit_amount unit_amount_decimal product_data tax_behavior",
        f"{where}[price_data]",
    )
    usd_only(price["currency"], f"{where}[price_data][currency]")
    if ("unit_amount" in price) == ("unit_amount_decimal" in price):
        raise invalid_request(
            "You must specify exactly one of `unit_amount` and `unit_amount_decimal`.",
            param=f"{where}[price_data]",
        )
    unit = Decimal(price.get("unit_amount", price.get("unit_amount_decimal")))
    quantity = item.get("quantity")
    if quantity is None or quantity < 1 or unit < 0:
        raise invalid_request(
            "Quantity is required and at least 1, and the unit amount is not negative.",
            param=f"{where}[quantity]",
        )
    if "product_data" not in price:
        raise not_simulated(f"{where}[price_data][product]")
    amount = int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP))
    return answers.blank(
        "item",
        id=sim.new_id("li"),
        amount_discount=0,
        amount_subtotal=amount,
        amount_tax=0,
        amount_total=amount,
        currency="usd",
        description=price["product_data"]["name"],
        quantity=quantity,
        price=_price(sim, unit, price),
    ) | {"discounts": [], "taxes": []}


def _price(sim: Simulator, unit: Decimal, data: Params) -> Answer:
    whole = unit == unit.to_integral_value()
    return answers.blank(
        "price",
        id=sim.new_id("price"),
        active=False,
        billing_scheme="per_unit",
        created=sim.now(),
        currency="usd",
        metadata={},
        product=sim.new_id("prod", 14),
        tax_behavior=data.get("tax_behavior", "unspecified"),
        type="one_time",
        unit_amount=int(unit) if whole else None,
        unit_amount_decimal=format(unit, "f"),
    )


def _start_setup(sim: Simulator, session: Answer, params: Params) -> None:
    for name in ("line_items", "payment_intent_data", "submit_type"):
        if name in params:
            raise invalid_request(f"You can not pass `{name}` in `setup` mode.", param=name)
    for name in ("automatic_tax", "billing_address_collection", "customer_update"):
        if name in params:
            raise not_simulated(f"`{name}` in `setup` mode")
    if session["customer"] is None:
        raise not_simulated("Checkout in mode=setup without a customer")
    data = params.get("setup_intent_data", {})
    only(data, "description metadata", "setup_intent_data")
    intent = setup_intents.new_intent(
        sim,
        customer=session["customer"],
        description=data.get("description"),
        metadata=merged_metadata({}, data.get("metadata")),
    )
    sim.store.put(setup_intents.PURPOSES, intent["id"], {"checkout": session["id"]})
    session |= {
        "currency": params.get("currency"),
        "payment_status": "no_payment_required",
        "setup_intent": intent["id"],
    }


# -- what the hosted page does ----------------------------------------------------------------


def submit(
    sim: Simulator,
    session: Answer,
    card: Card,
    *,
    expires: tuple[int, int],
    name: str,
    email: str,
    address: Answer | None = None,
) -> Answer:
    """The customer pressed the button; returns the intent or raises the card's 402."""
    mail = session["customer_email"] or email or email_of(sim, session)
    billing: Params = {"name": name, "email": mail or ""}
    if address:
        billing["address"] = address
    method = payment_methods.new_card(sim, card, billing, expires)
    if not session["customer"] and session["customer_creation"] == "always":
        given = {"address": address} if address else {}
        created = customers.create(sim, {"email": mail, "name": name, **given})
        session["customer"] = created["id"]
    session["customer_details"] = {
        "address": method["billing_details"]["address"],
        "business_name": None,
        "email": mail,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }
    sim.save(session)
    if session["mode"] == "setup":
        intent = setup_intents.fetch(sim, session["setup_intent"])
        return setup_intents.set_up(sim, intent, method, return_url=session["url"])
    return payments.pay(
        sim, _intent(sim, session), method, off_session=False, return_url=session["url"]
    )


def email_of(sim: Simulator, session: Answer) -> str | None:
    """The e-mail address of the session's customer, if it has one."""
    customer = sim.find("customer", session["customer"]) if session["customer"] else None
    return customer["email"] if customer else None


def _intent(sim: Simulator, session: Answer) -> Answer:
    if session["payment_intent"]:
        return sim.fetch("payment_intent", session["payment_intent"], param="payment_intent")
    stored = sim.store.get(checkout_tax.LINES, session["id"])
    assert stored is not None
    data = stored["intent"]
    intent = payments.new_intent(
        sim,
        amount=session["amount_total"],
        customer=session["customer"],
        **{k: v for k, v in data.items() if k != "metadata"},
        metadata=merged_metadata({}, data.get("metadata")),
    )
    sim.store.put(payments.PURPOSES, intent["id"], {"checkout": session["id"]})
    session["payment_intent"] = intent["id"]
    sim.save(session)
    return intent


def return_address(session: Answer) -> str:
    """Where the customer goes after success."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _complete(sim: Simulator, intent: Answer) -> None:
    table = payments.PURPOSES if intent["object"] == "payment_intent" else setup_intents.PURPOSES
    owner = (sim.store.get(table, intent["id"]) or {}).get("checkout")
    if owner is None:
        return
    session = sim.fetch(KIND, owner, param="session")
    session |= {"status": "complete", "url": None}
    if intent["object"] == "payment_intent":
        session["payment_status"] = "paid"
    sim.save(session)
    sim.emit("checkout.session.completed", session)


payments.AFTER_SUCCESS.append(_complete)
setup_intents.AFTER_SUCCESS.append(_complete)


def _expire(sim: Simulator, session: Answer) -> Answer:
    session |= {"status": "expired", "url": None}
    sim.save(session)
    for table, name in (("payment_intent", "payment_intent"), ("setup_intent", "setup_intent")):
        intent = sim.find(table, session[name]) if session[name] else None
        if intent and intent["status"] not in {"succeeded", "canceled"}:
            intent |= {"status": "canceled", "next_action": None}
            if table == "payment_intent":
                payments.cancel(sim, intent | {"status": "requires_payment_method"}, "automatic")
            else:
                sim.save(intent)
                sim.emit("setup_intent.canceled", intent)
    sim.emit("checkout.session.expired", session)
    return session


def expire_due(sim: Simulator) -> None:
    """Expire sessions whose time has come. The caller is inside a transaction."""
    for row in sim.store.rows(KIND):
        if row["status"] == "open" and row["expires_at"] <= sim.now():
            _expire(sim, sim.fetch(KIND, row["id"], param="session"))


# -- the rest of the API ------------------------------------------------------------------------


@operation("POST", "/v1/checkout/sessions/{session}/expire")
def expire(sim: Simulator, params: Params, *, session: str) -> Answer:
    found = sim.fetch(KIND, session, param="session", in_path=True)
    if found["status"] != "open":
        raise invalid_request(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
            f"Session has a status of `{found['status']}`."
        )
    return _expire(sim, found)


@operation("GET", "/v1/checkout/sessions/{session}")
def retrieve(sim: Simulator, params: Params, *, session: str) -> Answer:
    return sim.fetch(KIND, session, param="session", in_path=True)


@operation("GET", "/v1/checkout/sessions", takes=f"{PAGING} customer created payment_intent status")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        s
        for s in sim.store.rows(KIND)
        if all(params.get(n) in (None, s[n]) for n in ("customer", "payment_intent", "status"))
        and matches_time(s["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/checkout/sessions")


def lines_of(sim: Simulator, session: str) -> list[Answer]:
    """The line items of a session."""
    stored: dict[str, Any] = sim.store.get(checkout_tax.LINES, session) or {"lines": []}
    return list(stored["lines"])


@operation("GET", "/v1/checkout/sessions/{session}/line_items", takes=PAGING)
def line_items(sim: Simulator, params: Params, *, session: str) -> Answer:
    sim.fetch(KIND, session, param="session", in_path=True)
    url = f"/v1/checkout/sessions/{session}/line_items"
    return sim.page(lines_of(sim, session), params, url, newest_first=False)


@included(KIND, "line_items")
def _included_lines(sim: Simulator, session: Answer) -> Answer:
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return sim.page(lines_of(sim, session["id"]), {}, url, newest_first=False)
