"""The pages that a customer's browser opens: checkout, invoice, challenge, receipt.

A page acts through the same functions as the API; it never writes an object itself.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from devstack.stripe import checkout_page, payments, portal_page
from devstack.stripe.card_form import FormError, Page, go, missing, read_address, read_card
from devstack.stripe.core import Simulator
from devstack.stripe.errors import StripeError
from devstack.stripe.registry import Answer
from devstack.stripe.resources import (
    accounts,
    checkout,
    checkout_tax,
    invoice_payments,
    invoices,
    setup_intents,
)

TAXED = "Tax was added for your address. Please look at the new total."


def handle(sim: Simulator, method: str, target: str, body: bytes) -> Page:
    """Answer a request for a hosted page."""
    parts = [p for p in urlsplit(target).path.split("/") if p]
    form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    with sim.store.transaction():
        match parts:
            case ["c", "pay", session]:
                return _checkout(sim, method, session, form)
            case ["i", invoice]:
                return _invoice(sim, method, invoice, form)
            case ["_hosted", "authenticate", intent]:
                return _authenticate(sim, method, intent, form)
            case ["_hosted", "onboarding", link]:
                return _onboarding(sim, method, link, form)
            case ["p", "session", session]:
                return portal_page.handle(sim, method, session, form)
            case ["_hosted", "receipts", charge]:
                return _receipt(sim, charge)
    return missing()


def _after(intent: Answer, success_url: str) -> Page:
    if intent["status"] == "requires_action":
        return go(intent["next_action"]["redirect_to_url"]["url"])
    return go(success_url)


# -- checkout -----------------------------------------------------------------------------------


def _checkout(sim: Simulator, method: str, identifier: str, form: dict[str, str]) -> Page:
    session = sim.find(checkout.KIND, identifier)
    if session is None:
        return missing()
    if session["status"] != "open":
        text = (
            "You have already paid."
            if session["status"] == "complete"
            else ("This checkout session has expired. Go back to the shop and start again.")
        )
        return Page(200, checkout_page.notice("Checkout is closed", text))
    if method != "POST":
        return Page(200, _checkout_form(sim, session, None, {}))
    if form.get("action") == "cancel" and session["cancel_url"]:
        return go(session["cancel_url"])
    try:
        card, expires, name = read_card(sim, form)
        address = read_address(form) if checkout_tax.asks_address(session) else None
        if address is not None:
            session = checkout_tax.locate(sim, session, address)
        if form.get("total", str(session["amount_total"])) != str(session["amount_total"]):
            return Page(200, _checkout_form(sim, session, TAXED, form))
        intent = checkout.submit(
            sim,
            session,
            card,
            expires=expires,
            name=name,
            email=form.get("email", "").strip(),
            address=address,
        )
    except (FormError, StripeError) as error:
        if isinstance(error, StripeError) and not error.keeps_effects:
            raise
        return Page(200, _checkout_form(sim, session, str(error), form))
    return _after(intent, checkout.return_address(session))


def _checkout_form(sim: Simulator, session: Answer, error: str | None, form: dict[str, str]) -> str:
    setup = session["mode"] == "setup"
    lines = checkout.lines_of(sim, session["id"])
    email = session["customer_email"] or checkout.email_of(sim, session) or ""
    return checkout_page.card_form(
        title="Save your card" if setup else "Pay",
        amount=None if setup else session["amount_total"],
        lines=[
            f"{line['description']} × {line['quantity']}: "
            f"{checkout_page.dollars(line['amount_total'])}"
            for line in lines
        ],
        email=email,
        ask_email=not email,
        ask_address=checkout_tax.asks_address(session),
        error=error,
        can_cancel=bool(session["cancel_url"]),
        filled=form,
    )


# -- invoice ------------------------------------------------------------------------------------


def _invoice(sim: Simulator, method: str, identifier: str, form: dict[str, str]) -> Page:
    invoice = sim.find(invoices.KIND, identifier)
    if invoice is None or invoice["status"] == "draft":
        return missing()
    if invoice["status"] not in {"open", "uncollectible"}:
        return Page(
            200,
            checkout_page.notice(
                f"Invoice {invoice['number']}", f"This invoice is {invoice['status']}."
            ),
        )
    error: str | None = None
    if method == "POST":
        try:
            card, expires, name = read_card(sim, form)
            intent = invoice_payments.pay_on_page(
                sim, invoice, card, billing={"name": name}, expires=expires
            )
            return _after(intent, str(invoice["hosted_invoice_url"]))
        except (FormError, StripeError) as problem:
            if isinstance(problem, StripeError) and not problem.keeps_effects:
                raise
            error = str(problem)
    lines = [
        f"{line['description']}: {checkout_page.dollars(line['amount'])}"
        for line in invoices.lines_of(sim, identifier)
    ]
    return Page(
        200,
        checkout_page.card_form(
            title=f"Invoice {invoice['number']}",
            amount=invoice["amount_due"],
            lines=lines,
            email=invoice["customer_email"] or "",
            ask_email=False,
            error=error,
            can_cancel=False,
            filled=form,
        ),
    )


# -- challenge ----------------------------------------------------------------------------------


def _authenticate(sim: Simulator, method: str, identifier: str, form: dict[str, str]) -> Page:
    kind = "setup_intent" if identifier.startswith("seti_") else "payment_intent"
    intent = sim.find(kind, identifier)
    if intent is None:
        return missing()
    if intent["status"] != "requires_action":
        return Page(200, checkout_page.notice("Nothing to confirm", "There is nothing to do."))
    if method != "POST" or form.get("action") not in {"complete", "fail"}:
        return Page(200, checkout_page.challenge(intent.get("amount")))
    back = intent["next_action"]["redirect_to_url"]["return_url"]
    act: Any = setup_intents.authenticate if kind == "setup_intent" else payments.authenticate
    try:
        intent = act(sim, intent, success=form["action"] == "complete")
    except StripeError as error:
        if not error.keeps_effects:
            raise
        intent = sim.fetch(kind, identifier, param="intent")
    return go(_back(sim, kind, intent, back))


def _back(sim: Simulator, kind: str, intent: Answer, back: str | None) -> str:
    """Where the browser goes after the challenge."""
    good = intent["status"] == "succeeded"
    table = payments.PURPOSES if kind == "payment_intent" else setup_intents.PURPOSES
    owner = sim.store.get(table, intent["id"]) or {}
    if "checkout" in owner:
        session = sim.fetch(checkout.KIND, owner["checkout"], param="session")
        return checkout.return_address(session) if good else str(session["url"])
    if "invoice" in owner:
        return f"{sim.base_url}/i/{owner['invoice']}"
    if not back:
        return f"{sim.base_url}/_hosted/authenticate/{intent['id']}"
    query = urlencode(
        {
            kind: intent["id"],
            f"{kind}_client_secret": intent["client_secret"],
            "redirect_status": "succeeded" if good else "failed",
        }
    )
    return f"{back}{'&' if urlsplit(back).query else '?'}{query}"


def _receipt(sim: Simulator, charge: str) -> Page:
    found = sim.find("charge", charge)
    if found is None or found["status"] != "succeeded":
        return missing()
    last4 = found["payment_method_details"]["card"]["last4"]
    text = f"{checkout_page.dollars(found['amount'])} paid with the card ending in {last4}."
    return Page(200, checkout_page.notice("Receipt", text))


def _onboarding(sim: Simulator, method: str, key: str, form: dict[str, str]) -> Page:
    """Where the owner of a connected account gives what is missing; a link works once."""
    link = sim.store.get(accounts.LINKS, key)
    if link is None:
        return missing()
    if link["used"] or link["until"] <= sim.now():
        return go(str(link["refresh_url"]))
    error: str | None = None
    bank = re.sub(r"[\s-]", "", form.get("account_number", ""))
    if method == "POST" and form.get("action") != "later" and bank not in accounts.BANK_ACCOUNTS:
        error = "Use one of Stripe's test account numbers, such as 000123456789."
    if method != "POST" or error:
        return Page(200, checkout_page.onboarding(error, form))
    sim.store.put(accounts.LINKS, key, link | {"used": True})
    if form.get("action") != "later":
        accounts.onboard(sim, account=link["account"], bank=bank)
    return go(str(link["return_url"] or link["refresh_url"]))
