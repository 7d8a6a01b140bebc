"""The desk: what waits for somebody, and what people on call turn: switches and brakes."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from billing import facade as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import public
from kernel.money import from_minor
from kernel.text import clean
from marketplace.accounts import switches
from marketplace.accounts.access import STAFF, Principal
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
from marketplace.http.staff.forms import SwitchForm
from marketplace.oncall import desk
from marketplace.providers import brakes
from provisioner import facade as provisioner
from provisioner.facade import desk as clusters

_SHOWN: Final = 200
_QUEUES: Final = {
    "brakes": gettext_lazy("Mass brakes that hold something"),
    "preflights": gettext_lazy("Clusters kept from sale by preflight"),
    "unknown": gettext_lazy("Unknown pods and volumes in clusters"),
    "unknown_objects": gettext_lazy("Unknown objects at Stripe"),
    "reports": gettext_lazy("Problems that renters report"),
    "abuse": gettext_lazy("Abuse that owners report"),
    "providers": gettext_lazy("Providers to approve"),
    "frozen": gettext_lazy("Frozen organizations"),
    "disputes": gettext_lazy("Disputes without evidence"),
    "orders": gettext_lazy("Refunds and corrections to approve"),
    "reviews": gettext_lazy("Earnings to look at before they mature"),
    "breaks": gettext_lazy("Differences in the books"),
}


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What waits for somebody, what rings, and whether the books are right."""
    books, present = billing.books(), now()
    queues: list[dict[str, Any]] = [
        {
            "queue": queue,
            "label": _QUEUES[queue.name],
            "seconds": int((present - queue.oldest).total_seconds()) if queue.oldest else None,
        }
        for queue in desk.queues(principal)
    ]
    context = {
        "waiting": [item for item in queues if item["queue"].count],
        "empty": [item for item in queues if not item["queue"].count],
        "alarms": desk.ringing(principal),
        "on": switches.active(),
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
def unknown(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Pods, volumes and objects at Stripe that carry our name and that we do not know."""
    found = [
        {"view": view, "minor": from_minor(view.amount_minor or 0)}
        for view in billing.unknown_objects()[:_SHOWN]
    ]
    context = {
        "strangers": clusters.strangers(limit=_SHOWN),
        "objects": found,
    }
    return show(request, principal, "staff/unknown.html", context)


@page(scope=STAFF)
def preflights(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Clusters that the published rules keep from sale, with what failed."""
    failing = [
        {"view": view, "provider": public("provider", view.provider_ref)}
        for view in clusters.failing(limit=_SHOWN)
    ]
    context = {"failing": failing}
    return show(request, principal, "staff/preflights.html", context)


# --- switches ---------------------------------------------------------------------------------


@page(scope=STAFF)
def switch_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What is on and was lately; POST turns one."""
    names = {view.id: view.name for view in provisioner.clusters()}
    form = SwitchForm(
        posted(request), clusters=[(public("cluster", key), name) for key, name in names.items()]
    )
    refusal = None
    if request.method == "POST" and form.is_valid():
        turning_on = request.POST.get("turn") != "off"
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: switches.turn(
                    acting=principal,
                    name=form.cleaned_data["name"],
                    on=turning_on,
                    cluster=form.cleaned_data["cluster"] or None,
                    note=form.cleaned_data["note"],
                ),
                lambda _view: "/staff/switches",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("Turned. Every process obeys within five seconds."))
            return answer
    rows: list[dict[str, Any]] = [
        {
            "view": view,
            "where": names.get(view.cluster_id, "") if view.cluster_id else _("everywhere"),
            "cluster": public("cluster", view.cluster_id) if view.cluster_id else "",
            "key": new_key(),
        }
        for view in switches.history()
    ]
    context = {
        "on": [row for row in rows if row["view"].off_at is None],
        "off": [row for row in rows if row["view"].off_at is not None],
    }
    return show_form(
        request, principal, "staff/switches.html", form, refusal=refusal, context=context
    )


# --- brakes -----------------------------------------------------------------------------------


@page(scope=STAFF)
def brake_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What the mass brake holds, and what it held lately."""
    return _brakes(request, principal)


def _brakes(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    found = brakes.brakes()
    wanted = [view.cluster_id for view in found if view.cluster_id is not None]
    names = {view.id: view.name for view in provisioner.clusters(ids=wanted)} if wanted else {}
    rows: list[dict[str, Any]] = [
        {
            "view": view,
            "id": public("brake", view.id),
            "where": names.get(view.cluster_id, "") if view.cluster_id else _("everywhere"),
            "key": new_key(),
        }
        for view in found
    ]
    context = {
        "held": [row for row in rows if row["view"].released_at is None],
        "released": [row for row in rows if row["view"].released_at is not None],
        "refusal": refusal,
    }
    return show(request, principal, "staff/brakes.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def release(request: HttpRequest, principal: Principal, brake: str) -> HttpResponse:
    """Let go of a brake, with what was found."""
    note = clean(request.POST.get("note", ""), limit=500)
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: brakes.release(acting=principal, brake_id=brake, note=note),
            lambda _view: "/staff/brakes",
        )
    except Refusal as error:
        return _brakes(request, principal, error)
    messages.success(request, _("Let go: what it held is looked at again now."))
    return answer


urlpatterns = [
    path("staff/", overview),
    path("staff/unknown", unknown),
    path("staff/preflights", preflights),
    path("staff/switches", switch_page),
    path("staff/brakes", brake_page),
    path("staff/brakes/<str:brake>/release", release),
]
