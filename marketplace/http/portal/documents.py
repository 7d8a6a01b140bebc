"""Documents of the money: what use cost, by group and as files; and Stripe's own pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing.contracts.portal import PortalSessionView
from billing.contracts.usage import CostTotal
from billing.facade import portal as billing
from kernel.clock import now
from kernel.ids import parse, public
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, visible
from marketplace.http.portal.base import claim_of, once_to, page, show
from marketplace.http.portal.billing import id_in, progress
from marketplace.models import Project, Rental
from marketplace.rentals import costs, focus

# The longest table that is of use on a page; the files hold everything.
_ROWS = 500


@page(scope="billing:read")
def usage_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The costs of some days, this month's by default, summed by what the reader chose."""
    today = now().astimezone(UTC).date()
    begins = _day(request.GET.get("from"), today.replace(day=1))
    ends = _day(request.GET.get("to"), today + timedelta(days=1))
    groups = {
        "rental": _("Rental"),
        "project": _("Project"),
        "accelerator": _("Card"),
        "day": _("Day"),
    }
    by = request.GET.get("by", "")
    by = by if by in groups else "rental"
    sums = costs.totals(principal.org, _midnight(begins), _midnight(ends), by)
    context = {
        "from_day": begins.isoformat(),
        "to_day": ends.isoformat(),
        "by": by,
        "groups": groups.items(),
        "focus": focus.VERSION,
        "rows": _rows(principal, by, sums[:_ROWS]),
    }
    return show(request, principal, "portal/usage.html", context)


def _rows(principal: Principal, by: str, sums: list[CostTotal]) -> list[dict[str, Any]]:
    keys = [one.key for one in sums if one.key]
    names: dict[str, str] = {}
    if by == "rental":
        found = visible(Rental, principal).filter(id__in=[parse("rental", key) for key in keys])
        names = {rental.public_id: rental.name for rental in found}
    elif by == "project":
        ids = [parse("project", key) for key in keys]
        names = {one.public_id: one.name for one in visible(Project, principal).filter(id__in=ids)}
    return [
        {
            "name": names.get(one.key or "", one.key or _("None")),
            "link": f"/rentals/{one.key}" if by == "rental" and one.key in names else "",
            "gpu_seconds": one.gpu_seconds,
            "usage_micro": one.usage_micro,
            "credit_micro": one.credit_micro,
            "tax_micro": one.tax_micro,
            "total_micro": one.usage_micro + one.credit_micro + one.tax_micro,
        }
        for one in sums
    ]


def _day(text: str | None, default: date) -> date:
    """What a date field sent; the default for anything that is no day."""
    try:
        return parse_date(text or "") or default
    except ValueError:
        return default


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@require_POST
@page(scope="billing:write")
def open_stripe(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Wish for Stripe's own pages; the page after it goes there."""

    def start() -> PortalSessionView:
        view = billing.start_portal_session(
            org_ref=principal.org.id, return_url=f"{settings.GPUYARD_BASE_URL}/billing"
        )
        audit.record(
            acting=principal,
            action="portal_session.start",
            object=public("portal_session", view.id),
            organization_ref=principal.org.id,
        )
        return view

    principal.require_verified()
    return once_to(
        claim_of(request, principal),
        start,
        lambda view: f"/billing/stripe/{public('portal_session', view.id)}",
    )


@page(scope="billing:write")
def stripe_page(request: HttpRequest, principal: Principal, session: str) -> HttpResponse:
    view = billing.portal_session(
        org_ref=principal.org.id, session_id=id_in("portal_session", session)
    )
    payment = {"state": view.state.value, "url": view.url, "failure": view.failure}
    title = _("Cards and invoices at Stripe")
    return progress(request, principal, view.state, payment, title=title, done="")


urls = [
    path("billing/usage", usage_page),
    path("billing/stripe", open_stripe),
    path("billing/stripe/<str:session>", stripe_page),
]
