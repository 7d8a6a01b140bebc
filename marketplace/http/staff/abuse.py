"""The queue of abuse that owners reported, with the decision."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.models import AbuseReport
from marketplace.rentals import abuse

_HERE = "/staff/abuse"
_DECIDED = 50


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What waits, the oldest first, and what was decided lately."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    waiting = abuse.reports(principal, state=AbuseReport.State.OPEN).order_by("id")
    decided = abuse.reports(principal).exclude(state=AbuseReport.State.OPEN)
    context = {
        "waiting": [
            {**abuse.describe(row, staff=True), "at": row.created_at, "key": new_key()}
            for row in waiting
        ],
        "decided": [
            {**abuse.describe(row, staff=True), "at": row.decided_at, "by": row.decided_by}
            for row in decided.order_by("-decided_at")[:_DECIDED]
        ],
        "refusal": refusal,
    }
    return show(request, principal, "staff/abuse.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def decide(request: HttpRequest, principal: Principal, report: str) -> HttpResponse:
    upheld = request.POST.get("decision") == "uphold"
    note = clean(request.POST.get("note", ""), limit=500)
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: abuse.decide(acting=principal, report_id=report, upheld=upheld, note=note),
            lambda _row: _HERE,
        )
    except InvalidRequest as error:
        return _overview(request, principal, error)
    messages.success(
        request,
        _("It is upheld: the rental stays stopped.")
        if upheld
        else _("It is dismissed: its renter may start the rental again."),
    )
    return answer


urlpatterns = [
    path("staff/abuse", overview),
    path("staff/abuse/<str:report>/decide", decide),
]
