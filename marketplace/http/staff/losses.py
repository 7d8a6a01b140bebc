"""Bad debt for staff: invoices that are overdue, and those that were written off."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from kernel.text import clean
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show, status_of
from marketplace.providers import losses

_HERE = "/staff/write-offs"


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What is overdue, with the form to give it up, and what was given up."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    found = losses.losses(principal)
    context = {
        "overdue": [
            {
                "row": row,
                "id": public("invoice", row.view.id),
                "organization": public("organization", row.view.org_ref),
            }
            for row in losses.overdue(principal)
        ],
        "losses": [
            {
                "row": row,
                "id": public("invoice", row.view.invoice_id),
                "organization": public("organization", row.view.org_ref),
            }
            for row in found
        ],
        "lost_micro": sum(row.view.amount_micro for row in found),
        "collected_micro": sum(row.view.collected_micro for row in found),
        "refusal": refusal,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "staff/write_offs.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def write_off(request: HttpRequest, principal: Principal, invoice: str) -> HttpResponse:
    """Book one as a loss."""
    reason = clean(request.POST.get("reason", ""), limit=500)
    try:
        if not reason:
            raise InvalidRequest({"reason": ["say why"]})
        answer = once_to(
            claim_of(request, principal),
            lambda: losses.write_off(acting=principal, invoice_id=invoice, reason=reason),
            lambda _invoice: _HERE,
        )
    except Refusal as refusal:
        return _overview(request, principal, refusal)
    messages.success(request, _("Written off. A payment that still comes is booked back."))
    return answer


urlpatterns = [
    path("staff/write-offs", overview),
    path("staff/write-offs/<str:invoice>", write_off),
]
