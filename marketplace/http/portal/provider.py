"""A provider's home: clusters with their state, the map of cards, offers with prices, earnings.

Registering data centres and clusters is done over the API in this version.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing import facade as billing
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.idempotency import once
from marketplace.catalog import publish
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import (
    blame,
    claim_of,
    new_key,
    once_to,
    page,
    show,
    status_of,
)
from marketplace.http.portal.forms import ApplyForm, DiskPriceForm, PriceForm
from marketplace.models import Offer, Provider
from marketplace.providers import onboard
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState, ClusterView
from provisioner.facade import access

# The form's fields as the API calls them.
_PRICES: Final = {
    "price": "price_per_gpu_hour",
    "interruptible": "interruptible_price_per_gpu_hour",
}


@page(scope="provider:read")
def provider_home(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _home(request, principal)


def _home(
    request: HttpRequest,
    principal: Principal,
    *,
    refusal: Refusal | None = None,
    form: ApplyForm | None = None,
    relay: dict[str, Any] | None = None,
) -> HttpResponse:
    provider = visible(Provider, principal).first()
    context: dict[str, Any] = {
        "refusal": refusal,
        "provider": provider,
        "may_write": "provider:write" in principal.scopes,
        "idempotency_key": new_key(),
    }
    if provider is None:
        context["form"] = form or ApplyForm(initial={"contact_email": principal.user.email})
        template = "portal/provider_apply.html"
    else:
        names = {slug: card.name for slug, card in by_slug().items()}
        context |= {
            "clusters": _clusters(principal, names),
            "offers": [
                {**offer, "name": names.get(offer["accelerator"], offer["accelerator"])}
                for offer in map(publish.describe_owned, publish.list_offers(principal))
            ],
            "places": onboard.places(principal),
            "earnings": billing.earnings(provider_ref=provider.id),
            "has_gateway": access.has_gateway(),
            "relay": relay,
        }
        template = "portal/provider.html"
    status = 422 if form is not None and form.errors else status_of(refusal)
    return show(request, principal, template, context, status=status)


def _clusters(principal: Principal, names: dict[str, str]) -> list[dict[str, Any]]:
    views = onboard.clusters(principal)
    places = onboard.datacenters_of(views)
    return [
        {
            "id": public("cluster", view.id),
            "name": view.name,
            "is_retired": view.state == ClusterState.RETIRED,
            "relay_seen_at": view.relay_seen_at,
            "preflight": view.preflight.value,
            "sells": view.preflight_sells,
            "stage": onboard.stage_of(view),
            "state": view.state.value,
            "reason": view.reason,
            "detail": view.detail,
            "state_since": view.state_since,
            "server_version": view.server_version,
            "last_observed_at": view.last_observed_at,
            "reaper": view.reaper_state.value,
            "reaper_seen_at": view.reaper_seen_at,
            "datacenter": places[view.datacenter_ref].name,
            "nodes": _nodes(view, names),
        }
        for view in views
    ]


def _nodes(cluster: ClusterView, names: dict[str, str]) -> list[dict[str, Any]]:
    """The nodes, each with the states of its cards in order."""
    states: dict[str, list[str]] = {}
    for slot in provisioner.slots(cluster_id=cluster.id):
        states.setdefault(slot.node, []).append(slot.state)
    return [
        {
            "name": node.name,
            "ready": node.ready,
            "reason": node.reason,
            "accelerator": " · ".join(names.get(slug, slug) for slug in node.accelerators),
            "slots_free": node.slots_free,
            "slot_states": states.get(node.name, []),
        }
        for node in provisioner.nodes(cluster_id=cluster.id)
    ]


@require_POST
@page(scope="provider:write")
def apply(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = ApplyForm(request.POST)
    refusal = None
    if form.is_valid():
        try:
            return once_to(
                claim_of(request, principal),
                lambda: onboard.apply(acting=principal, **form.cleaned_data),
                lambda _provider: "/provider",
            )
        except Refusal as error:
            refusal = blame(form, error)
    return _home(request, principal, refusal=refusal, form=form)


@require_POST
@page(scope="provider:write")
def set_price(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """A price puts a draft on sale; of an offer on sale it changes new quotes only."""
    form = PriceForm(request.POST)
    try:
        if not form.is_valid():
            raise InvalidRequest(
                {_PRICES[name]: list(map(str, said)) for name, said in form.errors.items()}
            )
        answer = once_to(
            None,
            lambda: _price(principal, offer, **form.cleaned_data),
            lambda _offer: "/provider",
        )
    except InvalidRequest as error:
        return _home(request, principal, refusal=_spelled(error))
    messages.success(request, _("The price is set. It holds for new quotes from now on."))
    return answer


@require_POST
@page(scope="provider:write")
def set_disk_price(request: HttpRequest, principal: Principal, datacenter: str) -> HttpResponse:
    """Of a data centre, for volumes that are made from now on."""
    form = DiskPriceForm(request.POST)
    try:
        if not form.is_valid():
            raise InvalidRequest({"disk_price": list(map(str, form.errors["price"]))})
        answer = once_to(
            None,
            lambda: publish.set_disk_price(
                acting=principal,
                datacenter_id=datacenter,
                micro_gib_month=form.cleaned_data["price"],
            ),
            lambda _place: "/provider#disks",
        )
    except InvalidRequest as error:
        return _home(request, principal, refusal=_spelled(error))
    messages.success(
        request, _("The price is set. It holds for volumes made from now on; others keep theirs.")
    )
    return answer


@require_POST
@page(scope="provider:write")
def show_relay(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """What the cluster's relay needs, on this one answer; with ``replace`` another key."""
    replace = request.POST.get("replace") == "yes"
    rendered = once(
        claim_of(request, principal),
        lambda: onboard.relay_values(acting=principal, cluster_id=cluster, replace=replace),
        lambda values: (200, asdict(values)),
        secret_fields=("relay_seed",),
    )
    values = json.loads(rendered.body)
    return _home(request, principal, relay={**values, **_commands(values)})


def _commands(values: dict[str, Any]) -> dict[str, str]:
    """What relay.yaml says to run, with the values in it."""
    given = {
        "cluster": values["cluster"],
        "gateway": values["gateway"],
        "relay.seed": values["relay_seed"],
        "gateway.pub": values["gateway_key"],
    }
    literals = " ".join(f"--from-literal={name}='{value}'" for name, value in given.items())
    make = "kubectl create secret generic gpuyard-relay --namespace gpuyard-system"
    # Created or replaced: a second visit to this page changes the Secret that is there.
    return {
        "secret_command": f"{make} {literals} --dry-run=client -o yaml | kubectl apply -f -",
        "apply_command": f"sed 's|IMAGE|{values['image']}|' relay.yaml | kubectl apply -f -",
    }


def _price(principal: Principal, offer_id: str, *, price: int, interruptible: int | None) -> Offer:
    offer = get_visible(Offer, principal, offer_id)
    approved = offer.provider.state == Provider.State.APPROVED
    opens = offer.state == Offer.State.DRAFT and approved
    return publish.set_offer(
        acting=principal,
        offer_id=offer_id,
        price_micro_h=price,
        interruptible_price_micro_h=interruptible,
        state=Offer.State.ACTIVE if opens else None,
    )


def _spelled(error: InvalidRequest) -> InvalidRequest:
    """The messages as one sentence: the row that they are about is a small form in a table."""
    said = "; ".join(text for texts in error.extra["errors"].values() for text in texts)
    return InvalidRequest(error.extra["errors"], _("The price was not changed: ") + said)


urls = [
    path("provider", provider_home),
    path("provider/apply", apply),
    path("provider/offers/<str:offer>/price", set_price),
    path("provider/clusters/<str:cluster>/relay", show_relay),
    path("provider/datacenters/<str:datacenter>/disk-price", set_disk_price),
]
