"""The books: green or red; each break down to transaction, postings, cause and Stripe object."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from billing import facade
from billing.contracts.reconciliation import (
    CHECKS,
    BreakView,
    Check,
    LegView,
    ReconciledView,
    TracedView,
)
from billing.facade import reconciliation as billing
from kernel.errors import NotFound, Refusal
from kernel.ids import BadId, parse, public
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.providers import breaks as actions

_SHOWN = 50
# Rules that hold one side against the other's.
_AT_STRIPE = frozenset({"R3", "R4", "R5", "R6"})


class LookForm(forms.Form):
    """Who looks after a break and what was found; ``done`` explains it away."""

    owner = forms.CharField(
        label=gettext_lazy("Who looks after it"), required=False, max_length=100
    )
    note = forms.CharField(
        label=gettext_lazy("What was found"),
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 4}),
    )


@page(scope=STAFF)
def books(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Every check of the reconciliation with what it found."""
    standing = billing.breaks(state="open")
    ledger = facade.books()
    compared = billing.reconciled()
    broken = {view.name for view in standing}
    wrong = not ledger.balanced or bool(standing)
    # What was never compared may not be called right.
    known = all((compared.books_to, compared.usage_to, compared.stripe_to))
    context = {
        "ledger": ledger,
        "state": "broken" if wrong else "right" if known else "unknown",
        "checks": [
            (check, "broken" if name in broken else "holds" if _to(check, compared) else "unknown")
            for name, check in CHECKS.items()
        ],
        "open": _items(standing),
        "resolved": _items(billing.breaks(state="resolved")),
        "compared": compared,
        "coverage": billing.coverage(),
        "blocked": billing.payouts_blocked(),
    }
    return show(request, principal, "staff/books.html", context)


def _to(check: Check, compared: ReconciledView) -> datetime | None:
    """Up to when what a check is about was compared; None: never."""
    if check.rule == "R2":
        return compared.usage_to
    return compared.stripe_to if check.rule in _AT_STRIPE else compared.books_to


def _items(views: list[BreakView]) -> list[dict[str, Any]]:
    return [{"view": view, "public_id": public("break", view.id)} for view in views[:_SHOWN]]


@page(scope=STAFF)
def break_page(request: HttpRequest, principal: Principal, break_id: str) -> HttpResponse:
    """One break with the transactions that it is about."""
    return _break(request, principal, break_id)


def _break(
    request: HttpRequest, principal: Principal, break_id: str, refusal: Refusal | None = None
) -> HttpResponse:
    view = actions.find(break_id)
    context = {
        "found": view,
        "break_id": break_id,
        "check": CHECKS[view.name].text,
        "transactions": [_traced(one) for one in billing.traced(break_id=view.id)],
        "form": LookForm(initial={"owner": view.owner, "note": view.note}),
        "refusal": refusal,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "staff/break.html", context, status=status_of(refusal))


def _traced(view: TracedView) -> dict[str, Any]:
    """One transaction as staff read it, with the pages of those whose accounts it moved."""
    return {
        "view": view,
        "public_id": public("transaction", view.id),
        "linked": public("transaction", view.linked) if view.linked else None,
        "legs": [(leg, _owner(leg)) for leg in view.legs],
    }


def _owner(leg: LegView) -> dict[str, str] | None:
    if leg.owner is None:
        return None
    kind = "provider" if leg.account.startswith("provider") else "organization"
    name = public(kind, leg.owner)
    return {"id": name, "url": f"/staff/{kind}s/{name}"}


@require_POST
@page(scope=STAFF)
def look(request: HttpRequest, principal: Principal, break_id: str) -> HttpResponse:
    """Store owner and note; with ``done`` the break is resolved."""
    form = LookForm(request.POST)
    form.is_valid()
    owner = str(form.cleaned_data.get("owner", ""))
    note = str(form.cleaned_data.get("note", ""))

    def act() -> object:
        view = actions.own(acting=principal, break_id=break_id, owner=owner)
        if "done" in request.POST:
            return actions.resolve(acting=principal, break_id=break_id, note=note)
        return actions.note(acting=principal, break_id=break_id, note=note) if note else view

    try:
        answer = once_to(
            claim_of(request, principal), act, lambda _view: f"/staff/books/{break_id}"
        )
    except NotFound:
        raise
    except Refusal as refusal:
        return _break(request, principal, break_id, refusal)
    messages.success(request, _("Saved."))
    return answer


@page(scope=STAFF)
def transaction_page(request: HttpRequest, principal: Principal, txn: str) -> HttpResponse:
    """One transaction: its postings, its cause, its object at Stripe."""
    try:
        found = billing.trace(txn_id=parse("transaction", txn))
    except BadId as error:
        raise NotFound("transaction") from error
    if found is None:
        raise NotFound("transaction")
    context = {"transactions": [_traced(found)]}
    return show(request, principal, "staff/transaction.html", context)


urlpatterns = [
    path("staff/books", books),
    path("staff/books/<str:break_id>", break_page),
    path("staff/books/<str:break_id>/look", look),
    path("staff/transactions/<str:txn>", transaction_page),
]
