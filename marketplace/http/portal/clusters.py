"""One cluster of an owner: its nodes card by card, what to do about them, and the ways to leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.errors import NotFound, Refusal
from kernel.ids import public
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.catalog.registry import by_slug
from marketplace.http.portal import words
from marketplace.http.portal.base import blame, claim_of, once_to, page, posted, show_form
from marketplace.http.portal.pages import Pages, page_number
from marketplace.http.portal.supply_forms import SecretText
from marketplace.providers import onboard
from provisioner.contracts import ClusterMode, ClusterState, ClusterView
from provisioner.contracts.fleet import CardView, MachineView, Seat
from provisioner.facade import access, fleet

# Of eight cards each: about a hundred kilobytes, and a screen that can still be looked over.
_NODES: Final = 50
_SECRET: Final = ("token",)
# Of a mixed node some cards may not be sold while others are.
_SOLD: Final = (Seat.FREE, Seat.RENTED, Seat.DIRTY, Seat.MEASURED)


class TokenForm(forms.Form):
    """Another token for a cluster that we reach at its address."""

    token = forms.CharField(
        label=gettext_lazy("New token"),
        max_length=16_384,
        widget=SecretText({"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
        help_text=gettext_lazy("Used from now on, kept encrypted, and never shown again."),
    )


@page(scope="provider:read")
def cluster_page(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    return _page(request, principal, cluster, TokenForm())


def _page(
    request: HttpRequest,
    principal: Principal,
    cluster_id: str,
    form: TokenForm,
    *,
    refusal: Refusal | None = None,
    relay: dict[str, Any] | None = None,
) -> HttpResponse:
    view = onboard.own_cluster(principal, cluster_id)
    number = page_number(request)
    found = fleet.machines(cluster_id=view.id, offset=(number - 1) * _NODES, limit=_NODES)
    cards = Counter(card.seat for one in found.machines for card in one.cards)
    context = {
        "provider": view.provider_ref,
        "cluster": _facts(view),
        "machines": [_machine(one) for one in found.machines],
        "legend": [(seat, words.word("seat", seat)) for seat in Seat if cards[seat]],
        "pages": Pages(number, _NODES, found.total),
        "here": f"?page={number}" if number > 1 else "",
        "has_gateway": access.has_gateway(),
        "relay": relay,
        "may_write": "provider:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/cluster.html", form, refusal=refusal, context=context
    )


def _facts(view: ClusterView) -> dict[str, Any]:
    place = onboard.datacenters_of([view])[view.datacenter_ref]
    retired = view.state == ClusterState.RETIRED
    return {
        **asdict(view),
        "id": public("cluster", view.id),
        "place": f"{place.name}, {place.region}",
        "stage": onboard.stage_of(view),
        "is_retired": retired,
        "leaves": retired or view.state == ClusterState.DRAINING,
        "takes_token": view.mode == ClusterMode.DIRECT and not retired,
        "by_agent": view.mode == ClusterMode.AGENT,
    }


def _machine(one: MachineView) -> dict[str, Any]:
    names = {slug: card.name for slug, card in by_slug().items()}
    seats = Counter(card.seat for card in one.cards)
    models = dict.fromkeys(names.get(card.accelerator, card.accelerator) for card in one.cards)
    return {
        "id": public("node", one.id),
        "name": one.name,
        "models": " · ".join(models),
        "why": one.why or ("" if one.ready else _("It is not ready in its cluster.")),
        "cordoned_at": one.cordoned_at,
        "quarantined_at": one.quarantined_at,
        "cards": [_card(card, one) for card in one.cards],
        "sold": any(seats[seat] for seat in _SOLD) or not (one.why or one.cordoned_at),
        "free": seats[Seat.FREE],
        "rented": seats[Seat.RENTED],
    }


def _card(card: CardView, machine: MachineView) -> dict[str, Any]:
    since = {
        Seat.RENTED: card.rented_since,
        Seat.CORDONED: machine.cordoned_at,
        Seat.QUARANTINED: machine.quarantined_at,
    }
    return {
        "number": card.number,
        "seat": card.seat.value,
        "word": words.word("seat", card.seat),
        "since": since.get(card.seat),
    }


_DONE: Final = {
    "cordon": gettext_lazy("{node} takes no new rentals. What runs there goes on."),
    "uncordon": gettext_lazy("{node} is for rent again with the next look at the cluster."),
    "release": gettext_lazy("{node} is for rent again. The check at the next start finds out."),
}


@require_POST
@page(scope="provider:write")
def act_on_node(
    request: HttpRequest, principal: Principal, cluster: str, node: str, action: str
) -> HttpResponse:
    """Cordon, uncordon, release: each may be sent twice and then changes nothing more."""
    place = {"acting": principal, "cluster_id": cluster, "node_id": node}
    acts: dict[str, Callable[[], Any]] = {
        "cordon": lambda: onboard.cordon_node(off=True, **place),  # type: ignore[arg-type]
        "uncordon": lambda: onboard.cordon_node(off=False, **place),  # type: ignore[arg-type]
        "release": lambda: onboard.release_node(**place),  # type: ignore[arg-type]
    }
    if action not in acts:
        raise NotFound("page")
    names: list[str] = []

    def act() -> None:
        names.append(acts[action]().name)

    answer = once_to(None, act, lambda _done: _back(request, cluster))
    messages.success(request, str(_DONE[action]).format(node=names[0]))
    return answer


def _back(request: HttpRequest, cluster: str) -> str:
    number = page_number(request)
    return f"/provider/clusters/{cluster}" + (f"?page={number}" if number > 1 else "")


@require_POST
@page(scope="provider:write")
def replace_token(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    form, refusal = TokenForm(request.POST), None
    if form.is_valid():
        token = form.cleaned_data["token"].strip()
        try:
            answer = once_to(
                claim_of(request, principal, write_only=_SECRET),
                lambda: onboard.replace_token(acting=principal, cluster_id=cluster, token=token),
                lambda _view: f"/provider/clusters/{cluster}",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The new token is used from now on, and being checked."))
            return answer
    return _page(request, principal, cluster, form, refusal=refusal)


@page(scope="provider:write")
def drain(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """GET: the consequences. POST: no new rentals there, for good."""
    view, refusal = onboard.own_cluster(principal, cluster), None
    if posted(request) is not None:
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: onboard.drain_cluster(acting=principal, cluster_id=cluster),
                lambda _view: f"/provider/clusters/{cluster}",
            )
        except Refusal as error:
            refusal = error
        else:
            messages.success(request, _("It takes no new rentals. Those that run go on."))
            return answer
    context = {
        "title": _("Take {name} back").format(name=view.name),
        "lead": _(
            "No new rentals from this moment on, and this is not undone: the cluster would be "
            "added anew. What runs goes on to its end and is paid as agreed. When the last "
            "machine is gone the cluster is retired, and you may remove our files from it. To be "
            "rid of the rest by a date, announce a maintenance without an end."
        ),
        "submit": _("Take no new rentals"),
        "danger": True,
        "crumbs": [(_("Your cards"), "/provider"), (view.name, f"/provider/clusters/{cluster}")],
    }
    return show_form(
        request,
        principal,
        "portal/form_page.html",
        forms.Form(posted(request)),
        refusal=refusal,
        context=context,
    )


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
    relay = {**values, **_commands(values)}
    return _page(request, principal, cluster, TokenForm(), relay=relay)


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


urls = [
    path("provider/clusters/<str:cluster>", cluster_page),
    path("provider/clusters/<str:cluster>/nodes/<str:node>/<str:action>", act_on_node),
    path("provider/clusters/<str:cluster>/token", replace_token),
    path("provider/clusters/<str:cluster>/drain", drain),
    path("provider/clusters/<str:cluster>/relay", show_relay),
]
