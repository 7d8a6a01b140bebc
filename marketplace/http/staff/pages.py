"""Providers to approve, organizations with their limits and invoices, the books at a glance."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing import facade as billing
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.accounts.spend_limit import spend_limit
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import (
    blame,
    claim_of,
    new_key,
    once_to,
    page,
    posted,
    show,
    status_of,
)
from marketplace.http.staff import months
from marketplace.http.staff.forms import ApproveForm, LimitForm
from marketplace.models import Provider
from marketplace.providers import review

_PAGE = 25


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What waits for somebody, and whether the books are right."""
    books = billing.books()
    context = {
        "tab": "overview",
        "waiting": _providers(Provider.State.APPLIED),
        "books": books,
        "checks": [
            (_("Transactions that do not sum to zero"), books.unbalanced),
            (_("Balances that differ from their postings"), books.drifted),
            (_("Accounts below their floor"), books.below_floor),
            (_("Holds that differ from their rentals"), books.holds_uncovered),
            (_("Receivables that differ from open invoices"), books.receivables_wrong),
        ],
    }
    return show(request, principal, "staff/overview.html", context)


@page(scope=STAFF)
def providers(request: HttpRequest, principal: Principal) -> HttpResponse:
    context = {"tab": "providers", "providers": _providers()}
    return show(request, principal, "staff/providers.html", context)


def _providers(state: str | None = None) -> list[Provider]:
    rows = review.providers().order_by("-id")
    return list((rows.filter(state=state) if state else rows)[:_PAGE])


@page(scope=STAFF)
def provider_page(request: HttpRequest, principal: Principal, provider: str) -> HttpResponse:
    """One provider; POST approves it and binds its API servers' networks and ports."""
    found = find(review.providers(), provider)
    form = ApproveForm(posted(request), initial=_binding(found))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: review.approve(acting=principal, provider_id=provider, **form.cleaned_data),
                lambda _provider: f"/staff/providers/{provider}",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("Approved and bound. It can register clusters now."))
            return answer
    context = {
        "tab": "providers",
        "provider": found,
        "form": form,
        "refusal": refusal,
        "idempotency_key": new_key(),
    }
    status = 422 if form.errors else status_of(refusal)
    return show(request, principal, "staff/provider.html", context, status=status)


def _binding(provider: Provider) -> dict[str, Any]:
    return {
        "ownership": provider.ownership,
        "networks": "\n".join(provider.allowed_networks),
        "ports": ", ".join(map(str, provider.allowed_ports)),
        "fee_bps": provider.fee_bps,
    }


@page(scope=STAFF)
def organizations(request: HttpRequest, principal: Principal) -> HttpResponse:
    """All organizations, newest first; an address finds those of a person."""
    email = request.GET.get("email", "").strip()
    rows = review.organizations(email=email)
    found, following = keyset_page(
        rows, order=("-id",), cursor=request.GET.get("cursor"), limit=_PAGE
    )
    context = {
        "tab": "organizations",
        "email": email,
        "organizations": [
            {"row": row, "balance": billing.balance(org_ref=row.id)} for row in found
        ],
        "next_cursor": following,
        "more_query": urlencode({"email": email, "cursor": following}),
    }
    return show(request, principal, "staff/organizations.html", context)


@page(scope=STAFF)
def organization_page(
    request: HttpRequest, principal: Principal, organization: str
) -> HttpResponse:
    """One organization: balance, limits, invoices; POST sets limits."""
    form = LimitForm(posted(request))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: review.set_limits(
                    acting=principal, organization_id=organization, **form.cleaned_data
                ),
                lambda _organization: f"/staff/organizations/{organization}",
            )
        except InvalidRequest as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The limits are set."))
            return answer
    return _organization(request, principal, organization, form=form, refusal=refusal)


def _organization(
    request: HttpRequest,
    principal: Principal,
    organization: str,
    *,
    form: LimitForm,
    refusal: Refusal | None,
) -> HttpResponse:
    found = find(review.organizations(), organization)
    context = {
        "tab": "organizations",
        "found": found,
        "account": billing.balance(org_ref=found.id),
        "allowed": spend_limit(found),
        "people": found.memberships.select_related("user").order_by("id"),
        "invoices": [
            {"view": view, "public_id": public("invoice", view.id)}
            for view in billing.invoices(org_ref=found.id)
        ],
        "form": form,
        "refusal": refusal,
        "idempotency_key": new_key(),
        "close_key": new_key(),
    }
    status = 422 if form.errors else status_of(refusal)
    return show(request, principal, "staff/organization.html", context, status=status)


@require_POST
@page(scope=STAFF)
def close_period(request: HttpRequest, principal: Principal, organization: str) -> HttpResponse:
    """Invoice now what was charged and is on no invoice yet."""
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: review.close_period(acting=principal, organization_id=organization),
            lambda _invoice: f"/staff/organizations/{organization}#invoices",
        )
    except Refusal as refusal:
        return _organization(request, principal, organization, form=LimitForm(), refusal=refusal)
    messages.success(request, _("The period is closed. Stripe gets the invoice in a moment."))
    return answer


urlpatterns = [
    path("staff/", overview),
    path("staff/providers", providers),
    path("staff/providers/<str:provider>", provider_page),
    path("staff/organizations", organizations),
    path("staff/organizations/<str:organization>", organization_page),
    path("staff/organizations/<str:organization>/close-period", close_period),
    *months.urls,
]
