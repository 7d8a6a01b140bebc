"""Joining as an owner of cards: data centre, cluster, and what to run beside the forms."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from kernel.ids import public
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    new_key,
    once_to,
    page,
    show,
    status_of,
)
from marketplace.http.portal.supply_forms import ClusterForm, DataCenterForm
from marketplace.models import Provider
from marketplace.providers import agents, onboard

_HERE = "/provider/join"
# Whoever hands over a cluster sends secrets; they must not be guessed from what is remembered.
_SECRET = ("ca_pem", "token")


@page(scope="provider:write")
def join(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Every step on one page, with what is done already."""
    return _page(request, principal)


def _page(request: HttpRequest, principal: Principal, **parts: Any) -> HttpResponse:
    provider = onboard.own_provider(principal)
    places = onboard.places(principal)
    refusal: Refusal | None = parts.get("refusal")
    context = {
        "provider": provider,
        "approved": provider.state == Provider.State.APPROVED,
        "places": places,
        "bundle": f"{settings.GPUYARD_BASE_URL}/bundle/",
        "clusters": onboard.clusters(principal),
        "takes_agents": settings.GPUYARD_AGENT_DOOR is not None,
        "place_form": DataCenterForm(auto_id="place_%s"),
        "cluster_form": ClusterForm(auto_id="cluster_%s", places=_choices(principal)),
        "place_key": new_key(),
        "cluster_key": new_key(),
        **parts,
    }
    invalid = any(context[name].errors for name in ("place_form", "cluster_form"))
    status = 422 if invalid else status_of(refusal)
    return show(request, principal, "portal/join.html", context, status=status)


def _choices(principal: Principal) -> list[tuple[str, str]]:
    return [
        (place.public_id, f"{place.name}, {place.region}") for place in onboard.places(principal)
    ]


@require_POST
@page(scope="provider:write")
def add_datacenter(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = DataCenterForm(request.POST, auto_id="place_%s")
    refusal = None
    if form.is_valid():
        given = form.cleaned_data
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: onboard.add_datacenter(
                    acting=principal,
                    name=given["name"],
                    region=given["region"],
                    country=given["country"].upper(),
                ),
                lambda _place: _HERE,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The data centre is stored. Its cluster is next."))
            return answer
    return _page(request, principal, place_form=form, refusal=refusal)


@require_POST
@page(scope="provider:write")
def add_cluster(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = ClusterForm(request.POST, auto_id="cluster_%s", places=_choices(principal))
    refusal = None
    if form.is_valid():
        try:
            if form.cleaned_data["mode"] == "agent":
                return _add_agent(request, principal, form)
            return _add_direct(request, principal, form)
        except Refusal as error:
            refusal = blame(form, error)
    return _page(request, principal, cluster_form=form, refusal=refusal)


def _add_direct(request: HttpRequest, principal: Principal, form: ClusterForm) -> HttpResponse:
    given = form.cleaned_data
    order = onboard.ClusterOrder(
        name=given["name"],
        datacenter=given["datacenter"],
        api_url=given["api_url"].strip(),
        ca_pem=given["ca_pem"],
        token=given["token"].strip(),
    )
    rendered = onboard.add_cluster(
        acting=principal,
        order=order,
        claim=claim_of(request, principal, write_only=_SECRET),
        render=lambda view: (303, {"id": public("cluster", view.id)}),
    )
    messages.success(request, _("The cluster is registered. The first look is under way."))
    return go(f"/provider/clusters/{json.loads(rendered.body)['id']}/preflight")


def _add_agent(request: HttpRequest, principal: Principal, form: ClusterForm) -> HttpResponse:
    given = form.cleaned_data
    rendered = once(
        claim_of(request, principal, write_only=_SECRET),
        lambda: agents.add(acting=principal, name=given["name"], datacenter=given["datacenter"]),
        lambda made: (201, {"name": made.cluster.name, "command": made.command}),
        secret_fields=("command",),
    )
    return _page(request, principal, enrolled=json.loads(rendered.body))


urls = [
    path("provider/join", join),
    path("provider/join/datacenter", add_datacenter),
    path("provider/join/cluster", add_cluster),
]
