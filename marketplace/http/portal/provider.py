"""An owner's home: what needs it, what its cards earn, how they are doing, its clusters.

A cluster's own page is in clusters.py, offers and prices in owner_offers.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from billing import facade as billing
from kernel.errors import Refusal
from kernel.ids import public
from kernel.money import MICRO
from marketplace.accounts.access import Principal, visible
from marketplace.catalog import fees
from marketplace.catalog.market import fee_bps_of
from marketplace.catalog.price import BASIS_POINTS
from marketplace.catalog.registry import by_slug
from marketplace.http.portal import words
from marketplace.http.portal.base import blame, claim_of, once_to, page, show_form
from marketplace.http.portal.charts import Chart, Line
from marketplace.http.portal.forms import ApplyForm
from marketplace.models import Provider
from marketplace.providers import onboard
from marketplace.providers.attention import Need
from marketplace.providers.overview import Overview, Starts, overview
from provisioner.contracts import ClusterState

# Where each need is seen to, and what the link says.
_FIXES: Final[dict[str, tuple[str, words.Text]]] = {
    "suspended": ("/provider/capacity", _("See what runs")),
    "not_approved": ("/provider/join", _("Go on")),
    "no_cluster": ("/provider/join", _("Add a cluster")),
    "cluster_offline": ("/provider/clusters/{about}", _("See the cluster")),
    "preflight_failed": ("/provider/clusters/{about}/preflight", _("See what to do")),
    "reaper": ("/provider/clusters/{about}", _("See the cluster")),
    "relay": ("/provider/clusters/{about}", _("Show the values")),
    "quarantined": ("/provider/clusters/{about}#nodes", _("See the nodes")),
    "no_price": ("/provider/offers?state=draft", _("Set prices")),
    "below_floor": ("/provider/offers", _("See the offers")),
    "payout_account": ("/provider/payouts#account", _("See the account")),
    "maintenance": ("/provider/capacity", _("See it")),
}


@page(scope="provider:read")
def provider_home(request: HttpRequest, principal: Principal) -> HttpResponse:
    provider = visible(Provider, principal).first()
    if provider is None:
        return _apply_page(request, principal, ApplyForm(initial=_mail_of(principal)))
    clusters = onboard.clusters(principal)
    found = overview(acting=principal, clusters=clusters, fee_bps=fee_bps_of(principal))
    stages = onboard.stages_of(clusters)
    context = {
        "provider": provider,
        "needs": [_need(one) for one in found.needs],
        "found": found,
        "started": _share(found.starts),
        "chart": _chart(found) if found.thirty.share_micro else None,
        "earnings": billing.earnings(provider_ref=provider.id),
        "fees": _fees(provider),
        "clusters": [
            {"id": public("cluster", view.id), "view": view, "stage": stages[view.id]}
            for view in sorted(clusters, key=lambda one: one.state == ClusterState.RETIRED)
        ],
        "may_write": "provider:write" in principal.scopes,
    }
    return show_form(request, principal, "portal/provider.html", context=context)


def _fees(provider: Provider) -> dict[str, Any]:
    """What the platform keeps now and will keep, as shares of the price."""
    outlook, known = fees.outlook(provider), by_slug()

    def card(slug: str) -> str:
        return known[slug].name if slug in known else slug

    return {
        "share": _of_price(outlook.bps),
        "cards": [
            {"card": card(slug), "share": _of_price(bps)} for slug, bps in outlook.cards.items()
        ],
        "coming": [
            {
                "card": card(one.accelerator),
                "share": _of_price(one.to_bps),
                "at": one.valid_from,
            }
            for one in outlook.coming
        ],
    }


def _of_price(bps: int) -> Decimal:
    return Decimal(bps) / BASIS_POINTS


def _need(one: Need) -> dict[str, Any]:
    link, label = _FIXES[one.code]
    return {"need": one, "link": link.format(about=one.about), "label": label}


def _chart(found: Overview) -> Chart:
    """The share of each of the last thirty days."""
    return Chart(
        id="share-per-day",
        title=_("Your share per day"),
        at=[datetime.combine(day, time(), UTC) for day, _micro in found.per_day],
        lines=[Line(_("Cards and disks"), [micro / MICRO for _day, micro in found.per_day])],
        unit="$",
        kind="bars",
        note=_("Today is not over."),
        daily=True,
    )


def _share(starts: Starts) -> Decimal | None:
    return Decimal(starts.started) / starts.sample if starts.sample else None


def _mail_of(principal: Principal) -> dict[str, str]:
    return {"contact_email": principal.user.email}


def _apply_page(
    request: HttpRequest, principal: Principal, form: ApplyForm, refusal: Refusal | None = None
) -> HttpResponse:
    context = {"may_write": "provider:write" in principal.scopes}
    return show_form(
        request, principal, "portal/provider_apply.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="provider:write")
def apply(request: HttpRequest, principal: Principal) -> HttpResponse:
    form, refusal = ApplyForm(request.POST), None
    if form.is_valid():
        try:
            return once_to(
                claim_of(request, principal),
                lambda: onboard.apply(acting=principal, **form.cleaned_data),
                lambda _provider: "/provider/join",
            )
        except Refusal as error:
            refusal = blame(form, error)
    return _apply_page(request, principal, form, refusal)


urls = [
    path("provider", provider_home),
    path("provider/apply", apply),
]
