"""Money: balance, top-ups and cards through Stripe's page, transactions, invoices.

Stripe is never asked here: a form stores a wish, a progress page looks until Stripe's page exists
and then goes there. Coming back, the same page looks until the money is confirmed.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing import facade as billing
from billing.contracts import CardSetupView, PaymentState, TopUpView, TransactionView
from billing.facade import autotopup as orders
from billing.facade import refunds
from kernel.errors import NotFound, Refusal
from kernel.ids import BadId, parse, public
from marketplace.accounts import audit, auto_topup, returns
from marketplace.accounts.access import Principal
from marketplace.http.address import client_address
from marketplace.http.api.paging import bad_cursor, decode_cursor, encode_cursor
from marketplace.http.portal import money_charts
from marketplace.http.portal.base import (
    ORDER,
    blame,
    claim_of,
    go,
    is_htmx,
    new_key,
    once_to,
    page,
    piece,
    show,
    status_of,
)
from marketplace.http.portal.forms import TopUpForm
from marketplace.http.portal.money_forms import AutoTopUpForm, initial_of
from marketplace.http.portal.refund_form import RefundForm

_PRESETS = (25, 50, 100, 250)
_LATEST = 8
_PAGE = 50
_WAITING = (PaymentState.PENDING, PaymentState.OPEN)


@page(scope="billing:read")
def balance_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """``?amount=50.00``: what somebody came to pay, as an order's page worked it out."""
    amount = request.GET.get("amount", "")
    asked = {"amount": amount} if re.fullmatch(r"[0-9]{1,5}\.[0-9]{2}", amount) else {}
    return _balance(request, principal, TopUpForm(initial=asked))


@require_POST
@page(scope="billing:write")
def set_auto_topup(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = AutoTopUpForm(request.POST, methods=billing.payment_methods(org_ref=principal.org.id))
    if not form.is_valid():
        return _balance(request, principal, TopUpForm(), auto=form)
    try:
        return once_to(
            None,
            lambda: auto_topup.set_order(acting=principal, wish=form.wish()),
            lambda _view: "/billing#auto-topup",
        )
    except Refusal as error:
        return _balance(request, principal, TopUpForm(), blame(form, error), auto=form)


def _balance(
    request: HttpRequest,
    principal: Principal,
    form: TopUpForm,
    refusal: Refusal | None = None,
    refund_form: RefundForm | None = None,
    *,
    auto: AutoTopUpForm | None = None,
) -> HttpResponse:
    org_ref = principal.org.id
    methods, order = billing.payment_methods(org_ref=org_ref), orders.order(org_ref=org_ref)
    auto = auto or AutoTopUpForm(initial=initial_of(order.wish), methods=methods)
    balance = billing.balance(org_ref=org_ref)
    charts = [money_charts.balance_ahead(principal, balance), money_charts.spent_per_day(principal)]
    context = {
        "auto": auto,
        "order": order,
        "balance": balance,
        "charts": [chart for chart in charts if chart is not None],
        "form": form,
        "refusal": refusal,
        "amounts": _PRESETS,
        "may_pay": "billing:write" in principal.scopes,
        "idempotency_key": new_key(),
        "card_key": new_key(),
        "stripe_key": new_key(),
        "refund_key": new_key(),
        "refund_form": refund_form or RefundForm(auto_id="refund_%s"),
        "refunds": refunds.refunds(org_ref=org_ref, limit=5),
        "topups": [_topup(view) for view in billing.topups(org_ref=org_ref)[:5]],
        "methods": methods,
        "transactions": [
            _entry(row) for row in billing.transactions(org_ref=org_ref, limit=_LATEST)
        ],
    }
    mistaken = form.errors or (refund_form is not None and refund_form.errors)
    status = 422 if mistaken or auto.errors else status_of(refusal)
    return show(request, principal, "portal/billing.html", context, status=status)


@require_POST
@page(scope="billing:write")
def start_topup(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = TopUpForm(request.POST)
    preset = request.POST.get("preset", "")
    if preset:
        form = TopUpForm({"amount": preset})
    if not form.is_valid():
        return _balance(request, principal, form)
    amount = form.cleaned_data["amount"]

    def start() -> TopUpView:
        view = billing.start_topup(
            org_ref=principal.org.id,
            amount_micro=amount,
            return_url=_back("topups"),
            ip=client_address(request),
        )
        _record(principal, "topup.start", public("topup", view.id))
        return view

    try:
        principal.require_verified()
        principal.require_unfrozen()
        answer = once_to(
            claim_of(request, principal),
            start,
            lambda view: f"/billing/topups/{public('topup', view.id)}",
        )
    except Refusal as error:
        return _balance(request, principal, form, blame(form, error))
    request.session["paying"] = {"topups": answer["Location"]}
    return answer


@require_POST
@page(scope="billing:write")
def start_refund(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Send unspent purchased credit back to the cards it came from."""
    form = RefundForm(request.POST, auto_id="refund_%s")
    if not form.is_valid():
        return _balance(request, principal, TopUpForm(), refund_form=form)
    try:
        return once_to(
            claim_of(request, principal),
            lambda: returns.ask_refund(
                acting=principal,
                amount_micro=form.cleaned_data["amount"],
                reason=form.cleaned_data["reason"],
            ),
            lambda _view: "/billing#refunds",
        )
    except Refusal as error:
        return _balance(request, principal, TopUpForm(), blame(form, error), form)


@require_POST
@page(scope="billing:write")
def start_card(request: HttpRequest, principal: Principal) -> HttpResponse:
    def start() -> CardSetupView:
        view = billing.start_card_setup(
            org_ref=principal.org.id, return_url=_back("cards"), ip=client_address(request)
        )
        _record(principal, "card_setup.start", public("card_setup", view.id))
        return view

    principal.require_verified()
    answer = once_to(
        claim_of(request, principal),
        start,
        lambda view: f"/billing/cards/{public('card_setup', view.id)}",
    )
    request.session["paying"] = {"cards": answer["Location"]}
    return answer


@page(scope="billing:read")
def came_back(request: HttpRequest, principal: Principal, what: str) -> HttpResponse:
    """Where Stripe's page sends people: to the payment that this browser started last."""
    started = request.session.get("paying", {}).get(what)
    return go(f"{started}?returned=1" if started else "/billing")


@page(scope="billing:read")
def topup_page(request: HttpRequest, principal: Principal, topup: str) -> HttpResponse:
    view = billing.topup(org_ref=principal.org.id, topup_id=id_in("topup", topup))
    payment = {
        "state": view.state.value,
        "url": view.checkout_url,
        "failure": view.failure,
        "amount": view.amount_micro,
    }
    done = _("Your balance is credited.")
    return progress(request, principal, view.state, payment, title=_("Top-up"), done=done)


@page(scope="billing:read")
def card_page(request: HttpRequest, principal: Principal, setup: str) -> HttpResponse:
    view = billing.card_setup(org_ref=principal.org.id, setup_id=id_in("card_setup", setup))
    payment = {"state": view.state.value, "url": view.url}
    done = _("The card is saved.")
    return progress(request, principal, view.state, payment, title=_("Save a card"), done=done)


def progress(
    request: HttpRequest,
    principal: Principal,
    state: PaymentState,
    payment: dict[str, Any],
    *,
    title: str,
    done: str,
) -> HttpResponse:
    """Look once a second while somebody else works; go to Stripe's page once, by itself.

    Only once: whoever comes back with the browser's button must be able to stay.
    """
    returned = request.GET.get("returned") == "1"
    context = {
        "payment": payment,
        "title": title,
        "done": done,
        "returned": returned,
        "order": request.session.get(ORDER),
        "every": 1 if state in _WAITING else 0,
    }
    if not is_htmx(request):
        return show(request, principal, "portal/payment_progress.html", context)
    sent = request.session.get("sent_to_stripe", "")
    if state == PaymentState.OPEN and payment["url"] and not returned and sent != request.path:
        request.session["sent_to_stripe"] = request.path
        return HttpResponse(status=204, headers={"HX-Redirect": payment["url"]})
    return piece(request, "portal/payment_state.html", context)


@page(scope="billing:read")
def transactions_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    after = None
    cursor = request.GET.get("cursor")
    if cursor:
        try:
            after = UUID(decode_cursor(cursor, 1)[0])
        except ValueError as error:
            raise bad_cursor() from error
    rows = billing.transactions(org_ref=principal.org.id, limit=_PAGE + 1, after=after)
    following = encode_cursor([rows[_PAGE - 1].id]) if len(rows) > _PAGE else None
    context = {
        "transactions": [_entry(row) for row in rows[:_PAGE]],
        "next_cursor": following,
        "more_query": f"cursor={following}",
    }
    return show(request, principal, "portal/transactions.html", context)


@page(scope="billing:read")
def invoices_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    rows = [
        {"view": view, "public_id": public("invoice", view.id)}
        for view in billing.invoices(org_ref=principal.org.id)
    ]
    return show(request, principal, "portal/invoices.html", {"invoices": rows})


@page(scope="billing:read")
def invoice_page(request: HttpRequest, principal: Principal, invoice: str) -> HttpResponse:
    view = billing.invoice(org_ref=principal.org.id, invoice_id=id_in("invoice", invoice))
    return show(
        request,
        principal,
        "portal/invoice.html",
        {"invoice": view, "carried": -view.carried_micro, "public_id": public("invoice", view.id)},
    )


def _topup(view: TopUpView) -> dict[str, Any]:
    return {
        "public_id": public("topup", view.id),
        "amount_micro": view.amount_micro,
        "state": view.state.value,
        "created_at": view.created_at,
    }


_CAUSES = {
    "usage": ("charge", "/charges/"),
    "topup": ("topup", "/billing/topups/"),
    "invoice": ("invoice", "/billing/invoices/"),
}


def _entry(row: TransactionView) -> dict[str, Any]:
    """A ledger line with a link to its cause, where the cause has a page."""
    link = ""
    if row.cause_type in _CAUSES:
        kind, prefix = _CAUSES[row.cause_type]
        link = prefix + public(kind, UUID(row.cause_id))
    return {
        "at": row.at,
        "kind": row.kind,
        "text": row.text,
        "amount": row.amount_micro,
        "link": link,
    }


def id_in(kind: str, text: str) -> UUID:
    try:
        return parse(kind, text)
    except BadId as error:
        raise NotFound(kind.replace("_", " ")) from error


def _back(what: str) -> str:
    return f"{settings.GPUYARD_BASE_URL}/billing/{what}/return"


def _record(principal: Principal, action: str, object_id: str) -> None:
    audit.record(
        acting=principal, action=action, object=object_id, organization_ref=principal.org.id
    )


urls = [
    path("billing", balance_page),
    path("billing/topups", start_topup),
    path("billing/cards", start_card),
    path("billing/refunds", start_refund),
    path("billing/auto-topup", set_auto_topup),
    path("billing/<str:what>/return", came_back),
    path("billing/topups/<str:topup>", topup_page),
    path("billing/cards/<str:setup>", card_page),
    path("billing/transactions", transactions_page),
    path("billing/invoices", invoices_page),
    path("billing/invoices/<str:invoice>", invoice_page),
]
