"""Joining as an owner of cards, step by step: who you are, where the cards stand, a cluster, its
preflight, prices. The step comes from what there is already; the address may name another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import public
from marketplace.accounts.access import Principal, visible
from marketplace.accounts.idempotency import once
from marketplace.catalog import market, publish
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import blame, claim_of, go, once_to, page, show_form
from marketplace.http.portal.forms import ApplyForm
from marketplace.http.portal.preflight import QUICK, found_in
from marketplace.http.portal.supply_forms import (
    AgentForm,
    ClusterForm,
    DataCenterForm,
    OfferPricesForm,
)
from marketplace.http.portal.tags import money
from marketplace.http.portal.words import Text
from marketplace.models import DataCenter, Offer, Provider
from marketplace.providers import agents, onboard
from marketplace.providers.journey import Reached, Step, may_open, present
from provisioner.contracts import ClusterState, ClusterView

_HERE: Final = "/provider/join"
# Whoever hands over a cluster sends secrets; they must not be guessed from what is remembered.
_SECRET: Final = ("ca_pem", "token")
_BEFORE: Final = (Step.PLACE, Step.PREPARE, Step.HAND_OVER)
_LABELS: Final[dict[Step, Text]] = {
    Step.APPLY: gettext_lazy("Apply"),
    Step.PLACE: gettext_lazy("Data centre"),
    Step.PREPARE: gettext_lazy("Prepare"),
    Step.HAND_OVER: gettext_lazy("Hand over"),
    Step.PREFLIGHT: gettext_lazy("Preflight"),
    Step.PRICES: gettext_lazy("Prices"),
    Step.DONE: gettext_lazy("Done"),
}


@dataclass(frozen=True)
class _Way:
    """How far the reader is: what the steps are worked out from, loaded once for a page."""

    provider: Provider | None
    places: Sequence[DataCenter]
    cluster: ClusterView | None
    offers: Sequence[Offer]

    @property
    def reached(self) -> Reached:
        provider = self.provider
        return Reached(
            applied=provider is not None,
            approved=provider is not None and provider.state == Provider.State.APPROVED,
            has_place=bool(self.places),
            cluster=self.cluster is not None,
            sells=self.cluster is not None and self.cluster.preflight_sells,
            offers=len(self.offers),
            drafts=sum(offer.state == Offer.State.DRAFT for offer in self.offers),
        )


def _way(request: HttpRequest, principal: Principal) -> _Way:
    provider = visible(Provider, principal).first()
    if provider is None:
        return _Way(None, (), None, ())
    rows = publish.list_offers(principal).exclude(state=Offer.State.ENDED).order_by("id")
    offers = list(rows)
    cluster = _cluster(request, principal, offers)
    mine = [offer for offer in offers if cluster and offer.group.cluster_id == cluster.id]
    return _Way(provider, onboard.places(principal), cluster, mine)


def _cluster(
    request: HttpRequest, principal: Principal, offers: Sequence[Offer]
) -> ClusterView | None:
    """The one that the address names, else the newest that is not for rent yet."""
    if named := request.GET.get("cluster"):
        return onboard.own_cluster(principal, named)
    unpriced = {offer.group.cluster_id for offer in offers if offer.state == Offer.State.DRAFT}
    # One that passed and has no offer yet is a moment away from its first.
    priced = {offer.group.cluster_id for offer in offers} - unpriced
    leaving = (ClusterState.DRAINING, ClusterState.RETIRED)
    waiting = [
        view
        for view in onboard.clusters(principal)
        if view.state not in leaving and (not view.preflight_sells or view.id not in priced)
    ]
    return waiting[-1] if waiting else None


@page(scope="provider:write")
def join(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The step that is next, or the one that the address names."""
    way = _way(request, principal)
    step = present(way.reached)
    if named := request.GET.get("step"):
        if named not in list(Step) or not may_open(Step(named), way.reached):
            return go(_HERE)
        step = Step(named)
    return _page(request, principal, way, step)


def _anew(way: _Way) -> _Way:
    """Before a cluster is handed over, another one that is on its way is none of its steps."""
    return replace(way, cluster=None, offers=())


def _page(
    request: HttpRequest, principal: Principal, way: _Way, step: Step, **parts: Any
) -> HttpResponse:
    on_its_way = way.cluster
    if step in _BEFORE:
        way = _anew(way)
    form = parts.pop("form", None) or _form(principal, way, step, request.GET.get("mode", ""))
    refusal: Refusal | None = parts.pop("refusal", None)
    cluster = way.cluster
    context = {
        "provider": way.provider,
        "approved": way.reached.approved,
        "places": way.places,
        "step": step.value,
        "steps": _steps(way, step),
        "takes_agents": settings.GPUYARD_AGENT_DOOR is not None,
        "bundle": f"{settings.GPUYARD_BASE_URL}/bundle/",
        "cluster": cluster,
        "cluster_id": public("cluster", cluster.id) if cluster else "",
        "other": on_its_way if cluster is None else None,
        "offers": [publish.describe_owned(offer) for offer in way.offers],
        # A cluster that passed has its first offer a moment later: the page waits for it.
        "every": QUICK if step == Step.PRICES and not way.offers else None,
        **(found_in(principal, cluster, wizard=True) if step == Step.PREFLIGHT and cluster else {}),
        **parts,
    }
    forms = [form] if form is not None else []
    return show_form(
        request, principal, "portal/join.html", *forms, refusal=refusal, context=context
    )


def _steps(way: _Way, shown: Step) -> list[dict[str, Any]]:
    """For components/steps.html. A step behind the next one is done."""
    every = list(Step)
    following = every.index(present(way.reached))
    suffix = {"cluster": public("cluster", way.cluster.id)} if way.cluster else {}
    return [
        {
            "label": _LABELS[step],
            "state": "now" if step == shown else "done" if number < following else "todo",
            "url": f"{_HERE}?{urlencode({'step': step.value, **suffix})}"
            if step != shown and may_open(step, way.reached)
            else "",
        }
        for number, step in enumerate(every)
    ]


def _form(principal: Principal, way: _Way, step: Step, mode: str) -> Any:
    if step == Step.APPLY:
        return ApplyForm(initial={"contact_email": principal.user.email})
    if step == Step.PLACE:
        return DataCenterForm()
    if step == Step.HAND_OVER:
        kind = AgentForm if mode == "agent" else ClusterForm
        return kind(places=_choices(way))
    return OfferPricesForm(rows=_drafts(principal, way)) if step == Step.PRICES else None


def _choices(way: _Way) -> list[tuple[str, str]]:
    return [(place.public_id, f"{place.name}, {place.region}") for place in way.places]


def _drafts(principal: Principal, way: _Way) -> list[tuple[str, str, str]]:
    """Offers without a price: id, name, and what others ask."""
    drafts = [offer for offer in way.offers if offer.state == Offer.State.DRAFT]
    asked = market.asked_for(
        {offer.group.accelerator for offer in drafts}, besides=principal.org.id
    )
    found = []
    for offer in drafts:
        shown, view = publish.describe_owned(offer), asked[offer.group.accelerator]
        name = _("{name}, {n} cards").format(name=_card(offer), n=shown["gpus_total"])
        said = (
            _("Half of the others ask at most {middle}, nine tenths {high}.").format(
                middle=money(view.median_micro), high=money(view.p90_micro)
            )
            if view
            else ""
        )
        found.append((offer.public_id, name, said))
    return found


def _card(offer: Offer) -> str:
    card = by_slug().get(offer.group.accelerator)
    return card.name if card else offer.group.accelerator


def _refused_in(
    request: HttpRequest, principal: Principal, step: Step, form: Any, refusal: Refusal | None
) -> HttpResponse:
    """The step again with what was filled in."""
    way = _way(request, principal)
    return _page(request, principal, way, step, form=form, refusal=refusal)


@require_POST
@page(scope="provider:write")
def add_datacenter(request: HttpRequest, principal: Principal) -> HttpResponse:
    form, refusal = DataCenterForm(request.POST), None
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
    return _refused_in(request, principal, Step.PLACE, form, refusal)


@require_POST
@page(scope="provider:write")
def add_cluster(request: HttpRequest, principal: Principal) -> HttpResponse:
    places = _choices(_way(request, principal))
    by_agent = request.POST.get("mode") == "agent"
    form = (AgentForm if by_agent else ClusterForm)(request.POST, places=places)
    refusal = None
    if form.is_valid():
        try:
            add = _add_agent if by_agent else _add_direct
            return add(request, principal, form.cleaned_data)
        except Refusal as error:
            refusal = blame(form, error)
    return _refused_in(request, principal, Step.HAND_OVER, form, refusal)


def _add_direct(request: HttpRequest, principal: Principal, given: dict[str, Any]) -> HttpResponse:
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
    return go(f"{_HERE}?cluster={json.loads(rendered.body)['id']}")


def _add_agent(request: HttpRequest, principal: Principal, given: dict[str, Any]) -> HttpResponse:
    rendered = once(
        claim_of(request, principal, write_only=_SECRET),
        lambda: agents.add(acting=principal, name=given["name"], datacenter=given["datacenter"]),
        lambda made: (
            201,
            {
                "id": public("cluster", made.cluster.id),
                "name": made.cluster.name,
                "command": made.command,
            },
        ),
        secret_fields=("command",),
    )
    enrolled = json.loads(rendered.body)
    way = _way(request, principal)
    return _page(request, principal, way, Step.HAND_OVER, enrolled=enrolled)


@require_POST
@page(scope="provider:write")
def set_prices(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Prices of a cluster's offers that have none yet, all or none of those that were given."""
    way = _way(request, principal)
    cluster = way.cluster
    if cluster is None:
        raise NotFound("cluster")
    form, refusal = OfferPricesForm(request.POST, rows=_drafts(principal, way)), None
    if form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: [_open(principal, *one) for one in form.prices()],
                lambda _opened: f"{_HERE}?cluster={public('cluster', cluster.id)}",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("Your cards are on sale at these prices."))
            return answer
    return _page(request, principal, way, Step.PRICES, form=form, refusal=refusal)


def _open(principal: Principal, offer_id: str, micro: int) -> Offer:
    try:
        return publish.set_offer(
            acting=principal,
            offer_id=offer_id,
            price_micro_h=micro,
            state=Offer.State.ACTIVE,
        )
    except InvalidRequest as error:
        # Beside the field that it is about: the form has one for each offer.
        texts = [text for said in error.extra["errors"].values() for text in said]
        raise InvalidRequest({offer_id: texts}) from error


urls = [
    path("provider/join", join),
    path("provider/join/datacenter", add_datacenter),
    path("provider/join/cluster", add_cluster),
    path("provider/join/prices", set_prices),
]
