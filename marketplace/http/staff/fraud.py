"""Signs of fraud per organization, and what a person does about them with one click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing.facade import refunds
from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean
from marketplace.accounts import freezing
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.models import Organization
from marketplace.providers import review

T = TypeVar("T")

_HERE: Final = "/staff/fraud"
_PAGE: Final = 25
# What one click allows: one card of the common kinds, so that somebody honest goes on working while
# a person looks, and a stolen card empties nothing.
CAREFUL_MICRO_H: Final = 10_000_000
CAREFUL_GPUS: Final = 1


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Counts over the life of each organization, the newest first; or of the frozen ones."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    state = request.GET.get("state", "")
    rows = review.organizations()
    if state in Organization.State.values:
        rows = rows.filter(state=state)
    found, following = keyset_page(
        rows, order=("-id",), cursor=request.GET.get("cursor"), limit=_PAGE
    )
    counts = refunds.fraud_signals(org_refs=[row.id for row in found])
    context = {
        "state": state,
        "signals": [{"row": row, "counts": counts[row.id], "key": new_key()} for row in found],
        "careful_micro_h": CAREFUL_MICRO_H,
        "next_cursor": following,
        "more_query": urlencode({**({"state": state} if state else {}), "cursor": following or ""}),
        "refusal": refusal,
    }
    return show(request, principal, "staff/fraud.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def decide(request: HttpRequest, principal: Principal, organization: str) -> HttpResponse:
    """Limit, freeze or let go."""
    reason = clean(request.POST.get("reason", ""), limit=200)
    acts: dict[str, tuple[Callable[[], object], str]] = {
        "freeze": (
            lambda: freezing.freeze(acting=principal, organization_id=organization, reason=reason),
            _("Frozen: it starts and buys nothing more. What runs goes on until its money ends."),
        ),
        "unfreeze": (
            lambda: freezing.unfreeze(acting=principal, organization_id=organization),
            _("It can spend again."),
        ),
        "limit": (
            lambda: review.set_limits(
                acting=principal,
                organization_id=organization,
                credit_limit_micro=None,
                quota_gpus=CAREFUL_GPUS,
                spend_limit_micro_h=CAREFUL_MICRO_H,
            ),
            _("Limited to one GPU at a time. Its own page sets other limits."),
        ),
    }
    try:
        act, said = _chosen(acts, request.POST.get("decision", ""))
        answer = once_to(claim_of(request, principal), act, lambda _row: _HERE)
    except Refusal as error:
        return _overview(request, principal, error)
    messages.success(request, said)
    return answer


def _chosen(acts: dict[str, T], name: str) -> T:
    if name not in acts:
        raise InvalidRequest({"decision": [f"one of {', '.join(acts)}"]})
    return acts[name]


urlpatterns = [
    path("staff/fraud", overview),
    path("staff/fraud/<str:organization>", decide),
]
