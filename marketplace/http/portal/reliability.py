"""How placements on an owner's cards went: started, kept, failed, by cause and cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import path

from kernel.ids import public
from marketplace.accounts.access import Principal
from marketplace.catalog import publish
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import page, show
from marketplace.http.portal.earnings import record_of
from marketplace.models import Offer
from marketplace.providers import onboard
from provisioner.contracts.reliability import Cause, ReliabilityView
from provisioner.facade import reliability as records

_ROWS: Final = 200  # more are read by a program: GET /provider/offers


@page(scope="provider:read")
def reliability(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The last thirty days, as the offers show them; a loop keeps the figures."""
    provider = onboard.own_provider(principal)
    rows = publish.list_offers(principal).exclude(state=Offer.State.ENDED).order_by("id")
    offers = list(rows[:_ROWS])
    kept = records.reliabilities(group_ids=[offer.group_id for offer in offers])
    names = {view.id: view.name for view in onboard.clusters(principal)}
    views = [kept[offer.group_id] for offer in offers]
    context = {
        "provider": provider,
        "sample": sum(view.sample for view in views),
        "started": sum(view.started for view in views),
        "kept": sum(view.kept for view in views),
        "failures": _together(view.failures for view in views),
        "uncounted": _together(view.uncounted for view in views),
        "rows": [
            _row(offer, names.get(offer.group.cluster_id, ""), kept[offer.group_id])
            for offer in offers
        ],
    }
    return show(request, principal, "portal/reliability.html", context)


def _row(offer: Offer, cluster: str, view: ReliabilityView) -> dict[str, Any]:
    card = by_slug().get(offer.group.accelerator)
    return {
        "id": offer.public_id,
        "name": card.name if card else offer.group.accelerator,
        "region": offer.region,
        "cluster": cluster,
        "cluster_id": public("cluster", offer.group.cluster_id),
        **record_of(view),
    }


def _together(of_each: Iterable[tuple[Cause, ...]]) -> list[Cause]:
    """Causes of all offers, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for causes in of_each:
        for cause in causes:
            counts[cause.code, cause.text] += cause.count
    return [Cause(code, text, count) for (code, text), count in counts.most_common()]


urls = [path("provider/reliability", reliability)]
