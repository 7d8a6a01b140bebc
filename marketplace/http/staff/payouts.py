"""Payouts for staff: cash against all that is owed, runs with their approvals, holds, reviews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing.facade import payouts as billing
from kernel.errors import Refusal
from kernel.ids import public
from kernel.text import clean
from marketplace.accounts import staffing
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.providers import payouts

_RUNS = 20


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _overview(request, principal)


def _overview(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    preview, runs, reviews = billing.preview(), billing.runs()[:_RUNS], billing.reviews()
    names = payouts.names(
        [
            *(planned.provider_ref for planned in preview.providers),
            *(line.provider_ref for run in runs for line in run.lines),
        ]
    )
    people = staffing.emails()
    renters = payouts.renters(review.org_ref for review in reviews)
    context = {
        "preview": preview,
        "planned": [
            {
                "view": planned,
                "id": public("provider", planned.provider_ref),
                "name": names.get(planned.provider_ref, ""),
            }
            for planned in preview.providers
        ],
        "runs": [
            {
                "view": run,
                "id": public("payout_run", run.id),
                "actor": people.get(run.actor, run.actor),
                "agreed": [people.get(one, one) for one in run.approvals],
                "lines": [
                    {"view": line, "name": names.get(line.provider_ref, "")} for line in run.lines
                ],
            }
            for run in runs
        ],
        "reviews": [
            {
                "view": review,
                "id": public("organization", review.org_ref),
                "name": renters.get(review.org_ref, ""),
            }
            for review in reviews
        ],
        "refusal": refusal,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "staff/payouts.html", context, status=status_of(refusal))


def _do(
    request: HttpRequest, principal: Principal, act: Callable[[], Any], said: str
) -> HttpResponse:
    """One action of the page, and back to it; a refusal is shown there."""
    try:
        answer = once_to(claim_of(request, principal), act, lambda _result: "/staff/payouts")
    except Refusal as refusal:
        return _overview(request, principal, refusal)
    messages.success(request, said)
    return answer


@require_POST
@page(scope=STAFF)
def make_run(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _do(request, principal, lambda: payouts.make_run(acting=principal), _("Decided."))


@require_POST
@page(scope=STAFF)
def approve(request: HttpRequest, principal: Principal, run: str) -> HttpResponse:
    return _do(
        request,
        principal,
        lambda: payouts.approve_run(acting=principal, run_id=run),
        _("You agreed."),
    )


@require_POST
@page(scope=STAFF)
def cancel(request: HttpRequest, principal: Principal, run: str) -> HttpResponse:
    reason = clean(request.POST.get("reason", ""), limit=400)
    return _do(
        request,
        principal,
        lambda: payouts.cancel_run(acting=principal, run_id=run, reason=reason),
        _("The run is given up; what is due stays due."),
    )


@require_POST
@page(scope=STAFF)
def hold(request: HttpRequest, principal: Principal, provider: str) -> HttpResponse:
    reason = clean(request.POST.get("reason", ""), limit=500)
    return _do(
        request,
        principal,
        lambda: payouts.hold(acting=principal, provider_id=provider, reason=reason),
        _("Nothing is paid to this provider until you release it."),
    )


@require_POST
@page(scope=STAFF)
def release(request: HttpRequest, principal: Principal, provider: str) -> HttpResponse:
    return _do(
        request,
        principal,
        lambda: payouts.release(acting=principal, provider_id=provider),
        _("Released."),
    )


@require_POST
@page(scope=STAFF)
def release_review(request: HttpRequest, principal: Principal, organization: str) -> HttpResponse:
    note = clean(request.POST.get("note", ""), limit=500)
    return _do(
        request,
        principal,
        lambda: payouts.release_review(acting=principal, organization_id=organization, note=note),
        _("What this renter used matures now."),
    )


urlpatterns = [
    path("staff/payouts", overview),
    path("staff/payouts/run", make_run),
    path("staff/payouts/<str:run>/approve", approve),
    path("staff/payouts/<str:run>/cancel", cancel),
    path("staff/payouts/providers/<str:provider>/hold", hold),
    path("staff/payouts/providers/<str:provider>/release", release),
    path("staff/payouts/renters/<str:organization>/release", release_review),
]
