"""Refunds, credit notes and adjustments to order and approve; disputes to answer; fraud signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from billing.contracts.disputes import ANSWERABLE
from billing.contracts.refunds import OrderKind, OrderView
from billing.facade import disputes, refunds
from kernel.clock import now
from kernel.errors import NotFound, Refusal
from kernel.ids import BadId, parse, public
from kernel.text import clean
from marketplace.accounts import freezing, returns, staffing
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import (
    blame,
    claim_of,
    new_key,
    once_to,
    page,
    posted,
    show,
    show_form,
    status_of,
)
from marketplace.http.staff.forms import (
    AdjustmentForm,
    CreditNoteForm,
    EvidenceForm,
    PromotionForm,
    RefundOrderForm,
)
from marketplace.providers import payouts, review

_LATEST = 25
_HERE = "/staff/returns"


@dataclass(frozen=True)
class _Kind:
    """One kind of order: its name as in the address, its form and how it is ordered. What is
    decided about it afterwards is the same for all."""

    kind: OrderKind
    title: Promise
    form: type[forms.Form]
    order: Callable[[Principal, dict[str, Any]], object]


def _refund(acting: Principal, data: dict[str, Any]) -> object:
    return returns.order_refund(
        acting=acting,
        organization_id=data["organization"],
        amount_micro=data["amount"],
        reason=data["reason"],
    )


def _note(acting: Principal, data: dict[str, Any]) -> object:
    return returns.order_credit_note(
        acting=acting,
        invoice_id=data["invoice"],
        amount_micro=data["amount"],
        reason=data["reason"],
    )


def _adjustment(acting: Principal, data: dict[str, Any]) -> object:
    return returns.order_adjustment(
        acting=acting,
        organization_id=data["organization"],
        amount_micro=data["amount"],
        against=data["against"],
        reason=data["reason"],
        transaction_id=data["transaction"] or None,
    )


def _promotion(acting: Principal, data: dict[str, Any]) -> object:
    return returns.order_promotion(
        acting=acting,
        organization_id=data["organization"],
        amount_micro=data["amount"],
        expires_at=data["expires_at"],
        reason=data["reason"],
    )


_KINDS = {
    kind.kind: kind
    for kind in (
        _Kind(OrderKind.REFUND, gettext_lazy("Refunds"), RefundOrderForm, _refund),
        _Kind(OrderKind.CREDIT_NOTE, gettext_lazy("Credit notes"), CreditNoteForm, _note),
        _Kind(OrderKind.ADJUSTMENT, gettext_lazy("Adjustments"), AdjustmentForm, _adjustment),
        _Kind(OrderKind.PROMOTION, gettext_lazy("Promotional credit"), PromotionForm, _promotion),
    )
}


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What was ordered lately, what waits for a second person, and the forms."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest,
    principal: Principal,
    sent: forms.Form | None = None,
    refusal: Refusal | None = None,
) -> HttpResponse:
    alone, people = staffing.alone(), staffing.emails()
    orders = {name: refunds.orders(kind=name, limit=_LATEST) for name in _KINDS}
    names = payouts.renters(view.org_ref for views in orders.values() for view in views)
    sections = [
        {
            "name": name,
            "title": kind.title,
            "form": sent if isinstance(sent, kind.form) else _blank(kind, request),
            "key": new_key(),
            "rows": [
                {
                    **_row(name, view, principal, alone),
                    "of": names.get(view.org_ref, ""),
                    "ordered_by": people.get(view.ordered_by, view.ordered_by),
                    "approved_by": people.get(view.approved_by, view.approved_by),
                    "declined_by": people.get(view.declined_by, view.declined_by),
                }
                for view in orders[name]
            ],
        }
        for name, kind in _KINDS.items()
    ]
    context = {"sections": sections, "refusal": refusal}
    status = 422 if sent is not None and sent.errors else status_of(refusal)
    return show(request, principal, "staff/returns.html", context, status=status)


def _blank(kind: _Kind, request: HttpRequest) -> forms.Form:
    """The form as a link fills it in, such as one from a report; nothing is ordered by that."""
    names = kind.form.base_fields
    known = {name: request.GET[name] for name in names if name in request.GET}
    return kind.form(auto_id=f"{kind.kind}_%s", initial=known)


def _row(kind: OrderKind, view: OrderView, principal: Principal, alone: bool) -> dict[str, Any]:
    mine = view.ordered_by == principal.staff_actor
    return {
        "view": view,
        "public_id": public(kind, view.id),
        "organization": public("organization", view.org_ref),
        "waits": view.state == "waiting",
        "mine": mine,
        # Whoever ordered it may carry it out where there is nobody else, a day later.
        "alone": mine and alone,
        "may_approve": not mine or (alone and view.alone_from <= now()),
        "key": new_key(),
    }


@require_POST
@page(scope=STAFF)
def order(request: HttpRequest, principal: Principal, name: str) -> HttpResponse:
    """Order one; it moves at once or waits for a second person."""
    kind = _kind(name)
    form = kind.form(request.POST, auto_id=f"{name}_%s")
    if not form.is_valid():
        return _overview(request, principal, form)
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: kind.order(principal, form.cleaned_data),
            lambda _view: f"{_HERE}#{name}",
        )
    except Refusal as error:
        return _overview(request, principal, form, blame(form, error))
    messages.success(request, _("Ordered. Above the limit it waits for a second person."))
    return answer


@require_POST
@page(scope=STAFF)
def approve(request: HttpRequest, principal: Principal, name: str, order: str) -> HttpResponse:
    """The second person's yes."""
    kind = _kind(name).kind
    return _decide(
        request,
        principal,
        name,
        lambda: returns.approve(acting=principal, kind=kind, order_id=order),
        _("Approved and on its way."),
    )


@require_POST
@page(scope=STAFF)
def decline(request: HttpRequest, principal: Principal, name: str, order: str) -> HttpResponse:
    """No, or withdrawn; either way with a reason."""
    kind, reason = _kind(name).kind, clean(request.POST.get("reason", ""), limit=500)
    return _decide(
        request,
        principal,
        name,
        lambda: returns.decline(acting=principal, kind=kind, order_id=order, reason=reason),
        _("It is declined. Nothing was moved."),
    )


def _decide(
    request: HttpRequest,
    principal: Principal,
    name: str,
    act: Callable[[], object],
    said: str,
) -> HttpResponse:
    try:
        answer = once_to(claim_of(request, principal), act, lambda _view: f"{_HERE}#{name}")
    except Refusal as error:
        return _overview(request, principal, refusal=error)
    messages.success(request, said)
    return answer


@page(scope=STAFF)
def disputes_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Disputes, newest first, and the signs of fraud of the newest organizations."""
    rows, following = keyset_page(
        review.organizations(), order=("-id",), cursor=request.GET.get("cursor"), limit=_LATEST
    )
    counts = refunds.fraud_signals(org_refs=[row.id for row in rows])
    latest = disputes.disputes(limit=_LATEST)
    names = payouts.renters(view.org_ref for view in latest)
    context = {
        "disputes": [
            {
                "view": view,
                "public_id": public("dispute", view.id),
                "organization": public("organization", view.org_ref),
                "of": names.get(view.org_ref, ""),
            }
            for view in latest
        ],
        "signals": [{"row": row, "counts": counts[row.id], "key": new_key()} for row in rows],
        "next_cursor": following,
        "more_query": f"cursor={following}",
    }
    return show(request, principal, "staff/disputes.html", context)


@page(scope=STAFF)
def dispute_page(request: HttpRequest, principal: Principal, dispute: str) -> HttpResponse:
    """One dispute with the evidence that the ledger gives; POST submits it, once."""
    evidence = disputes.evidence(dispute_id=_dispute_id(dispute))
    form = EvidenceForm(posted(request), initial=asdict(evidence))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: returns.submit_evidence(
                    acting=principal, dispute_id=dispute, **form.cleaned_data
                ),
                lambda _view: f"/staff/disputes/{dispute}",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("Submitted. Stripe gets it in a moment."))
            return answer
    view = disputes.dispute(dispute_id=_dispute_id(dispute))
    context = {
        "dispute": view,
        "asked": view.state in ANSWERABLE and view.ordered_at is None,
        "evidence": evidence,
        "organization": public("organization", view.org_ref),
    }
    return show_form(
        request, principal, "staff/dispute.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope=STAFF)
def unfreeze(request: HttpRequest, principal: Principal, organization: str) -> HttpResponse:
    """Let a frozen organization spend again."""
    answer = once_to(
        claim_of(request, principal),
        lambda: freezing.unfreeze(acting=principal, organization_id=organization),
        lambda _organization: "/staff/disputes",
    )
    messages.success(request, _("It can spend again."))
    return answer


def _kind(name: str) -> _Kind:
    try:
        return _KINDS[OrderKind(name)]
    except ValueError as error:
        raise NotFound("kind of order") from error


def _dispute_id(text: str) -> UUID:
    try:
        return parse("dispute", text)
    except BadId as error:
        raise NotFound("dispute") from error


urlpatterns = [
    path("staff/returns", overview),
    path("staff/returns/<str:name>", order),
    path("staff/returns/<str:name>/<str:order>/approve", approve),
    path("staff/returns/<str:name>/<str:order>/decline", decline),
    path("staff/disputes", disputes_page),
    path("staff/disputes/<str:dispute>", dispute_page),
    path("staff/organizations/<str:organization>/unfreeze", unfreeze),
]
