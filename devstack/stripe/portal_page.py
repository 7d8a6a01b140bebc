"""The billing portal's page: cards, billing details, invoices. Acts through the API's functions."""

from html import escape

from devstack.stripe import checkout_page
from devstack.stripe.card_form import FormError, Page, go, missing, read_card
from devstack.stripe.core import Simulator
from devstack.stripe.errors import StripeError
from devstack.stripe.registry import Answer
from devstack.stripe.resources import customers, payment_methods, portal


def handle(sim: Simulator, method: str, identifier: str, form: dict[str, str]) -> Page:
    """Answer a request for the page of a portal session."""
    session = sim.store.get(portal.SESSIONS, identifier)
    if session is None:
        return missing()
    if session["created"] + portal.LIVES_S <= sim.now():
        return Page(200, checkout_page.notice("Link expired", "Go back and open it again."))
    configuration = sim.fetch(portal.KIND, session["configuration"], param="configuration")
    features = configuration["features"]
    error: str | None = None
    if method == "POST":
        if form.get("action") == "return" and session["return_url"]:
            return go(str(session["return_url"]))
        try:
            _act(sim, session["customer"], features, form)
            return go(str(session["url"]))
        except (FormError, StripeError) as problem:
            if isinstance(problem, StripeError) and problem.status != 402:
                raise
            error = str(problem)
    return Page(200, _page(sim, session, features, error))


def _act(sim: Simulator, customer: str, features: Answer, form: dict[str, str]) -> None:
    action = form.get("action")
    if action in {"add", "remove", "default"} and features["payment_method_update"]["enabled"]:
        _card(sim, customer, action, form)
    elif action == "update" and features["customer_update"]["enabled"]:
        allowed = set(features["customer_update"]["allowed_updates"]) & {"email", "name"}
        given = {name: form[name] for name in allowed if name in form}
        customers.update(sim, given, customer=customer)
    else:
        raise FormError("This cannot be changed here.")


def _card(sim: Simulator, customer: str, action: str, form: dict[str, str]) -> None:
    if action == "add":
        card, expires, name = read_card(sim, form)
        method = payment_methods.new_card(sim, card, {"name": name}, expires)
        payment_methods.attach_to(sim, method, customer)
        return
    chosen = form.get("payment_method", "")
    found = sim.find("payment_method", chosen)
    if found is None or found["customer"] != customer:
        raise FormError("This card is not yours.")
    if action == "remove":
        payment_methods.detach_from(sim, found)
    else:
        settings = {"invoice_settings": {"default_payment_method": chosen}}
        customers.update(sim, settings, customer=customer)


def _page(sim: Simulator, session: Answer, features: Answer, error: str | None) -> str:
    customer = sim.fetch("customer", session["customer"], param="customer")
    parts = [f'<div role="alert">{escape(error)}</div>' if error else ""]
    if features["payment_method_update"]["enabled"]:
        parts.append(_cards(sim, customer))
    if features["customer_update"]["enabled"]:
        parts.append(
            '<h2>Billing details</h2><form method="post">'
            + checkout_page.field("email", "Email", "email", customer["email"] or "", "email")
            + checkout_page.field("name", "Name", "name", customer["name"] or "", "text")
            + '<button name="action" value="update">Save</button></form>'
        )
    if features["invoice_history"]["enabled"]:
        parts.append(_invoices(sim, customer["id"]))
    if session["return_url"]:
        parts.append(
            '<form method="post"><button class="plain" name="action" value="return">Return'
            "</button></form>"
        )
    return checkout_page.page("Billing", "<h1>Billing</h1>" + "".join(parts))


def _cards(sim: Simulator, customer: Answer) -> str:
    default = customer["invoice_settings"]["default_payment_method"]
    rows = ""
    for method in sim.store.rows("payment_method"):
        if method["customer"] == customer["id"]:
            card = method["card"]
            note = " (default)" if method["id"] == default else ""
            rows += (
                f"<li>{escape(card['brand'])} ending in {card['last4']}, {card['exp_month']}/"
                f'{card["exp_year"]}{note}<form method="post"><input type="hidden" '
                f'name="payment_method" value="{escape(method["id"])}">'
                '<button class="plain" name="action" value="default">Make default</button>'
                '<button class="plain" name="action" value="remove">Remove</button></form></li>'
            )
    return (
        f'<h2>Cards</h2><ul>{rows}</ul><form method="post">{checkout_page.card_fields({})}'
        '<button name="action" value="add">Add card</button></form>'
    )


def _invoices(sim: Simulator, customer: str) -> str:
    rows = "".join(
        f'<li><a href="{escape(i["hosted_invoice_url"])}">{escape(i["number"])}</a>: '
        f"{checkout_page.dollars(i['total'])}, {i['status']}</li>"
        for i in sim.store.rows("invoice")
        if i["customer"] == customer and i["status"] != "draft"
    )
    return f"<h2>Invoices</h2><ul>{rows}</ul>"
