"""Who is on an owner's cards, when these are taken down, when they are for rent."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import public
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.catalog import availability, publish
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import blame, claim_of, new_key, once_to, page, posted, show_form
from marketplace.http.portal.calendar import Month, month_named, month_of, span
from marketplace.http.portal.supply_forms import MaintenanceForm, StopNowForm, TimesForm
from marketplace.models import Maintenance, Offer
from marketplace.providers import onboard
from marketplace.rentals import abuse, host
from provisioner.contracts import ClusterState
from provisioner.facade import fleet

_HERE = "/provider/capacity"
_SHOWN = 50


@page(scope="provider:read")
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _overview(request, principal, MaintenanceForm(places=_places(principal)))


def _overview(
    request: HttpRequest,
    principal: Principal,
    form: MaintenanceForm,
    refusal: Refusal | None = None,
) -> HttpResponse:
    names = {slug: card.name for slug, card in by_slug().items()}
    clusters = onboard.clusters(principal)
    shown = {public("cluster", view.id): view.name for view in clusters}
    planned = visible(Maintenance, principal).order_by("-starts_at", "-id")[:_SHOWN]
    context = {
        "month": _month(request, principal, {view.id: view.name for view in clusters}),
        "rentals": [
            {
                **row,
                "name": names.get(row["accelerator"], row["accelerator"]),
                "cluster_name": shown[row["cluster"]],
            }
            for row in host.rentals_there(principal)
        ],
        "planned": [
            {
                "row": row,
                "state": host.state_of(row),
                "cluster": shown.get(public("cluster", row.cluster_ref), ""),
                "key": new_key(),
            }
            for row in planned
        ],
        "reports": [abuse.describe(row) for row in abuse.own(principal).order_by("-id")[:_SHOWN]],
        "clusters": [
            {"id": public("cluster", view.id), "name": view.name}
            for view in clusters
            if view.state != ClusterState.RETIRED
        ],
        "may_write": "provider:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/capacity.html", form, refusal=refusal, context=context
    )


def _month(request: HttpRequest, principal: Principal, names: dict[UUID, str]) -> Month:
    """The month that the address names, with what is announced and was not called off."""
    today = now().astimezone(UTC).date()
    first = month_named(request.GET.get("month"), today)
    start, end = span(first)
    rows = visible(Maintenance, principal).filter(
        Q(ends_at=None) | Q(ends_at__gt=start), starts_at__lt=end, withdrawn_at=None
    )
    return month_of(
        first,
        today,
        rows,
        lambda row: ", ".join(filter(None, (names.get(row.cluster_ref, ""), row.node_name))),
    )


def _places(principal: Principal) -> list[tuple[str, str]]:
    """Clusters with their nodes, as the form's choices: ``clu_…`` or ``clu_… nod_…``."""
    here = [view for view in onboard.clusters(principal) if view.state != ClusterState.RETIRED]
    nodes = fleet.node_names(cluster_ids=[view.id for view in here])
    found = []
    for view in here:
        cluster = public("cluster", view.id)
        found.append((cluster, _("{name}, all of it").format(name=view.name)))
        for node, name in nodes.get(view.id, ()):
            found.append((f"{cluster} {public('node', node)}", f"{view.name}, {name}"))
    return found


@require_POST
@page(scope="provider:write")
def announce(request: HttpRequest, principal: Principal) -> HttpResponse:
    form, refusal = MaintenanceForm(request.POST, places=_places(principal)), None
    if form.is_valid():
        given = form.cleaned_data
        cluster, _space, node = given["what"].partition(" ")
        asked = host.Asked(
            cluster=cluster,
            node=node or None,
            starts_at=given["starts_at"],
            ends_at=given["ends_at"],
            note=given["note"],
        )
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: host.announce(acting=principal, asked=asked),
                lambda _row: _HERE,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("It is announced. Whoever rents there is told now."))
            return answer
    return _overview(request, principal, form, refusal)


@require_POST
@page(scope="provider:write")
def withdraw(request: HttpRequest, principal: Principal, maintenance: str) -> HttpResponse:
    answer = once_to(
        claim_of(request, principal),
        lambda: host.withdraw(acting=principal, maintenance_id=maintenance),
        lambda _row: _HERE,
    )
    messages.success(request, _("It is called off. The cards are for rent again."))
    return answer


@page(scope="provider:write")
def stop_rental(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """GET: the consequences. POST: stopped."""
    host.require_there(principal, rental)

    def act(data: dict[str, Any]) -> object:
        return host.stop_rental(acting=principal, rental_id=rental, **data)

    return _stop(
        request, principal, _("Stop this rental now"), act, (_("Rentals and maintenance"), _HERE)
    )


@page(scope="provider:write")
def stop_cluster(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """The same for all that runs in a cluster."""
    name = onboard.own_cluster(principal, cluster).name

    def act(data: dict[str, Any]) -> object:
        return host.stop_cluster(acting=principal, cluster_id=cluster, **data)

    title = _("Stop everything in {name} now").format(name=name)
    return _stop(request, principal, title, act, (name, f"/provider/clusters/{cluster}"))


def _stop(
    request: HttpRequest, principal: Principal, title: str, act: Any, place: tuple[str, str]
) -> HttpResponse:
    form, refusal = StopNowForm(posted(request)), None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal), lambda: act(form.cleaned_data), lambda _done: _HERE
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("It is stopped."))
            return answer
    context = {
        "title": title,
        "lead": _(
            "It stops in seconds, without notice. From this moment on its renter pays nothing and "
            "you earn nothing. What is on volumes is kept."
        ),
        "submit": _("Stop now"),
        "danger": True,
        "crumbs": [(_("Your cards"), "/provider"), place],
    }
    return show_form(
        request, principal, "portal/form_page.html", form, refusal=refusal, context=context
    )


@page(scope="provider:write")
def times(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """When an offer is for rent, and what it gives of the network."""
    row = get_visible(Offer, principal, offer)
    if row.state in (Offer.State.DRAFT, Offer.State.ENDED):
        raise Refusal(
            "invalid_transition",
            "An offer needs a price before it has times."
            if row.state == Offer.State.DRAFT
            else "The offer has ended for good.",
            state=row.state,
            actions=[],
        )
    form, refusal = TimesForm(posted(request), initial=_times_of(row)), None
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            answer = once_to(
                None,
                lambda: publish.set_offer(
                    acting=principal,
                    offer_id=offer,
                    state=given["state"],
                    times={"windows": form.windows(), "ends_at": given["ends_at"]},
                    network={name: given[name] for name in ("egress", "bandwidth_mbps")},
                ),
                lambda _offer: "/provider/offers",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The times are set. They hold for new rentals."))
            return answer
    card = by_slug().get(row.group.accelerator)
    many = row.windows is not None and len(row.windows["weekly"]) > 1
    context = {
        "title": _("When {name} is for rent").format(name=card.name if card else offer),
        "lead": _("It has several windows, set over the API. Saving here leaves one of them.")
        if many
        else _("Rentals that run keep the end that they were placed with."),
        "submit": _("Set times"),
        "crumbs": [(_("Your cards"), "/provider"), (_("Your offers"), "/provider/offers")],
    }
    return show_form(
        request, principal, "portal/form_page.html", form, refusal=refusal, context=context
    )


def _times_of(row: Offer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "state": row.state,
        "ends_at": row.ends_at,
        "egress": row.group.egress,
        "bandwidth_mbps": row.group.bandwidth_mbps,
    }
    weekly = availability.read(row.windows)
    if weekly is not None:
        first = weekly.windows[0]
        found |= {
            "days": list(first.days),
            "start": first.start,
            "to": first.to,
            "timezone": weekly.timezone,
        }
    return found


urls = [
    path("provider/capacity", overview),
    path("provider/maintenance", announce),
    path("provider/maintenance/<str:maintenance>/withdraw", withdraw),
    path("provider/rentals/<str:rental>/stop", stop_rental),
    path("provider/clusters/<str:cluster>/stop", stop_cluster),
    path("provider/offers/<str:offer>/times", times),
]
