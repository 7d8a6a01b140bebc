"""Staff page of the months: trial balance, export, lock."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing.facade import journal as billing
from kernel.errors import Refusal
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.api.journal import month_in
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.providers import review


@page(scope=STAFF)
def months(request: HttpRequest, principal: Principal) -> HttpResponse:
    """All months, newest first."""
    context = {"months": billing.months()}
    return show(request, principal, "staff/months.html", context)


@page(scope=STAFF)
def month_page(request: HttpRequest, principal: Principal, month: str) -> HttpResponse:
    return _month(request, principal, month, refusal=None)


def _month(
    request: HttpRequest, principal: Principal, month: str, *, refusal: Refusal | None
) -> HttpResponse:
    context = {
        "month": billing.month(month_in(month)),
        "refusal": refusal,
        "lock_key": new_key(),
    }
    return show(request, principal, "staff/month.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def lock(request: HttpRequest, principal: Principal, month: str) -> HttpResponse:
    """Lock the month for good."""
    first_day = month_in(month)
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: review.lock_month(acting=principal, month=first_day),
            lambda _view: f"/staff/months/{month}",
        )
    except Refusal as refusal:
        return _month(request, principal, month, refusal=refusal)
    messages.success(request, _("The month is locked. Its digest follows within a minute."))
    return answer


urls = [
    path("staff/months", months),
    path("staff/months/<str:month>", month_page),
    path("staff/months/<str:month>/lock", lock),
]
