"""The queue of problems that renters report, oldest first, and one rental explained."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.models import ProblemReport
from marketplace.oncall.explain import explain
from marketplace.rentals import problems, read

_HERE = "/staff/reports"
_SHOWN = 100
_ANSWERED = 50
_OPEN = ProblemReport.State.OPEN


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What waits, the oldest first, and what was answered lately."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    waiting = problems.reports(principal, state=_OPEN).order_by("id")[:_SHOWN]
    answered = problems.reports(principal).exclude(state=_OPEN).order_by("-answered_at")
    context = {
        "waiting": [
            {**row, "key": new_key(), "give_back": _give_back(row)}
            for row in problems.describe_many(waiting)
        ],
        "answered": problems.describe_many(answered[:_ANSWERED]),
        "longest": problems.LONGEST,
        "refusal": refusal,
    }
    return show(request, principal, "staff/reports.html", context, status=status_of(refusal))


def _give_back(row: dict[str, Any]) -> str:
    """The address of the form for an adjustment, filled in with what the report is about."""
    charge = row["seen"]["charge"]
    known = {
        "organization": row["organization"],
        "amount": charge["amount"] if charge else "",
        "transaction": charge["transaction"] if charge else "",
        "reason": _("Problem report %(id)s") % {"id": row["id"]},
    }
    given = urlencode({name: value for name, value in known.items() if value})
    return f"/staff/returns?{given}#adjustment"


@require_POST
@page(scope=STAFF)
def answer(request: HttpRequest, principal: Principal, report: str) -> HttpResponse:
    """Answer one, once; its renter is mailed."""
    try:
        sent = once_to(
            claim_of(request, principal),
            lambda: problems.answer(
                acting=principal,
                report_id=report,
                text=request.POST.get("answer", ""),
                close=request.POST.get("decision") == "close",
            ),
            lambda _row: _HERE,
        )
    except Refusal as error:
        return _overview(request, principal, error)
    messages.success(request, _("Answered. Whoever reported it gets a mail."))
    return sent


@page(scope=STAFF)
def explain_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """Everything known of one rental, in the order of time."""
    facts = explain(rental, acting=principal)
    found = find(read.every(principal), rental)
    context = {"facts": facts, "rental": found}
    return show(request, principal, "staff/explain.html", context)


urlpatterns = [
    path("staff/reports", overview),
    path("staff/reports/<str:report>/answer", answer),
    path("staff/rentals/<str:rental>/explain", explain_page),
]
