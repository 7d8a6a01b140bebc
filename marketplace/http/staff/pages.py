"""Providers to approve, organizations with their limits and invoices."""

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
from marketplace.accounts import looks
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.accounts.spend_limit import spend_limit
from marketplace.http import seeing
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    new_key,
    once_to,
    page,
    posted,
    show,
    show_form,
)
from marketplace.http.staff import months
from marketplace.http.staff.forms import ApproveForm, LimitForm
from marketplace.models import Provider
from marketplace.providers import review

_PAGE = 25


@page(scope=STAFF)
def providers(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The newest, and before them those that wait for approval, oldest first."""
    waiting = review.providers().filter(state=Provider.State.APPLIED).order_by("id")
    context = {
        "waiting": list(waiting[:_PAGE]),
        "providers": list(review.providers().order_by("-id")[:_PAGE]),
    }
    return show(request, principal, "staff/providers.html", context)


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
        "provider": found,
    }
    return show_form(
        request, principal, "staff/provider.html", form, refusal=refusal, context=context
    )


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
    balances = billing.balances(org_refs=[row.id for row in found])
    context = {
        "email": email,
        "organizations": [{"row": row, "balance": balances.get(row.id)} for row in found],
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
        "found": found,
        "account": billing.balance(org_ref=found.id),
        "allowed": spend_limit(found),
        "people": found.memberships.select_related("user").order_by("id"),
        "invoices": [
            {"view": view, "public_id": public("invoice", view.id)}
            for view in billing.invoices(org_ref=found.id)
        ],
        "close_key": new_key(),
        "look_key": new_key(),
        "look_minutes": int(looks.LONGEST.total_seconds()) // 60,
    }
    return show_form(
        request, principal, "staff/organization.html", form, refusal=refusal, context=context
    )


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


@require_POST
@page(scope=STAFF)
def begin_look(request: HttpRequest, principal: Principal, organization: str) -> HttpResponse:
    """See the portal as this organization does, for a while and with a reason."""
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: looks.begin(
                acting=principal,
                organization_id=organization,
                reason=request.POST.get("reason", ""),
            ),
            lambda _look: "/rentals",
        )
    except InvalidRequest as refusal:
        return _organization(request, principal, organization, form=LimitForm(), refusal=refusal)
    look = looks.latest(principal.user)
    if look is not None:
        seeing.enter(request, look)
    return answer


@require_POST
@page()
def end_look(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Be oneself again. Open to whoever looks, who is no staff meanwhile."""
    held = seeing.leave(request)
    if held is None or principal.organization is None:
        return go("/staff/")
    target = f"/staff/organizations/{principal.organization.public_id}"
    return once_to(None, lambda: looks.end(user=principal.user, look_id=held), lambda _: target)


urlpatterns = [
    path("staff/providers", providers),
    path("staff/providers/<str:provider>", provider_page),
    path("staff/organizations", organizations),
    path("staff/organizations/<str:organization>", organization_page),
    path("staff/organizations/<str:organization>/close-period", close_period),
    path("staff/organizations/<str:organization>/look", begin_look),
    path("staff/look/end", end_look),
    *months.urls,
]
