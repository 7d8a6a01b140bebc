"""An owner's offers with price, market and floor, and what another price would change.

A price is changed in two steps: the first shows what it does and stores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, Refusal
from kernel.money import format_micro
from marketplace.accounts.access import Principal, get_visible
from marketplace.catalog import market, publish
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import blame, once_to, page, show_form
from marketplace.http.portal.forms import DiskPriceForm, PriceForm
from marketplace.http.portal.pages import Pages, leaf, page_number
from marketplace.models import Offer, Provider
from marketplace.providers import card_costs, onboard
from marketplace.rentals import host

_HERE: Final = "/provider/offers"
_SIZE: Final = 50
_GLANCE: Final = 100  # micro-units
# The form's fields as the API calls them.
_PRICES: Final = {
    "price": "price_per_gpu_hour",
    "interruptible": "interruptible_price_per_gpu_hour",
}


@page(scope="provider:read")
def offers(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _offers(request, principal)


def _offers(
    request: HttpRequest, principal: Principal, refusal: Refusal | None = None
) -> HttpResponse:
    provider = onboard.own_provider(principal)
    number = page_number(request)
    state = request.GET.get("state", "")
    rows = publish.list_offers(principal).order_by("id")
    rows = rows.filter(state=state) if state in Offer.State.values else rows
    found, total = leaf(rows, number, _SIZE)
    context = {
        "provider": provider,
        "offers": _described(principal, provider, found),
        "pages": Pages(number, _SIZE, total),
        "state": state,
        "more": f"&{urlencode({'state': state})}" if state else "",
        "places": onboard.places(principal),
        "may_write": "provider:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/owner_offers.html", refusal=refusal, context=context
    )


def _described(
    principal: Principal, provider: Provider, rows: Sequence[Offer]
) -> list[dict[str, Any]]:
    """Each with its market and, where its owner keeps figures of the card, its floor."""
    slugs = {offer.group.accelerator for offer in rows}
    asked = market.asked_for(slugs, besides=principal.org.id)
    kept = card_costs.saved(principal)
    fee = market.fee_bps_of(principal, provider) if kept else 0  # only a floor is worked out by it
    found = []
    for offer in rows:
        slug, price = offer.group.accelerator, offer.price_micro_h or None
        cost = kept.get(slug)
        worth = _glance(card_costs.priced(cost.given, fee, price)) if cost else None
        found.append(
            {
                **publish.describe_owned(offer),
                "name": _name(slug),
                "market": asked[slug],
                "worth": worth,
            }
        )
    return found


def _glance(worth: card_costs.Priced) -> card_costs.Priced:
    """In hundredths of a cent, prices rounded up and what is left down: to the micro-unit it is on
    the page of figures."""

    def up(micro: int) -> int:
        return -(-micro // _GLANCE) * _GLANCE

    left = worth.margin_micro
    return replace(
        worth,
        floor_micro=up(worth.floor_micro),
        full_cost_micro=up(worth.full_cost_micro),
        margin_micro=None if left is None else left // _GLANCE * _GLANCE,
    )


def _name(slug: str) -> str:
    card = by_slug().get(slug)
    return card.name if card else slug


@page(scope="provider:write")
def price(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """GET: what a price would do, with the one in the address or the present one. POST: set."""
    rows = publish.list_offers(principal)
    row, refusal = get_visible(rows, principal, offer), None
    form = PriceForm(request.POST if request.method == "POST" else _asked(request, row))
    if request.method == "POST":
        try:
            return _set(request, principal, offer, form)
        except Refusal as error:
            refusal = blame(form, _named(error)) if form.is_valid() else None
    (shown,) = _described(principal, row.provider, [row])
    wanted = form.cleaned_data["price"] if form.is_valid() else None
    context = {
        "offer": shown,
        "given": form.data,
        "effect": _effect(principal, row, wanted) if wanted else None,
        "worth": _worth(principal, row, wanted),
        "opens": row.state == Offer.State.DRAFT,
        "approved": row.provider.state == Provider.State.APPROVED,
    }
    return show_form(
        request, principal, "portal/owner_price.html", form, refusal=refusal, context=context
    )


def _asked(request: HttpRequest, row: Offer) -> Any:
    """What the form starts with: what the address asks about, else what holds now."""
    if "price" in request.GET:
        return request.GET
    present = {"price": format_micro(row.price_micro_h)} if row.price_micro_h else {}
    if row.interruptible_price_micro_h:
        present["interruptible"] = format_micro(row.interruptible_price_micro_h)
    return present or None


def _worth(principal: Principal, row: Offer, wanted: int | None) -> card_costs.Priced | None:
    cost = card_costs.saved(principal).get(row.group.accelerator)
    if cost is None:
        return None
    fee = market.fee_bps_of(principal, row.provider, row.group.accelerator)
    return _glance(card_costs.priced(cost.given, fee, wanted))


def _effect(principal: Principal, row: Offer, wanted: int) -> dict[str, Any]:
    """Who keeps which price, and where the new one stands in the market."""
    running = host.prices_there(principal, row.public_id)
    asked = market.asked(row.group.accelerator, besides=principal.org.id)
    return {
        "wanted": wanted,
        "before": row.price_micro_h or None,
        "same": wanted == row.price_micro_h,
        "running": running,
        "gpus": sum(one.gpus for one in running),
        "market": asked,
        "above_most": asked is not None and wanted > asked.p90_micro,
    }


def _set(request: HttpRequest, principal: Principal, offer: str, form: PriceForm) -> HttpResponse:
    """A price puts a draft on sale; of an offer on sale it changes new quotes only."""
    if not form.is_valid():
        raise InvalidRequest({name: list(map(str, said)) for name, said in form.errors.items()})
    answer = once_to(
        None, lambda: _price(principal, offer, **form.cleaned_data), lambda _offer: _HERE
    )
    messages.success(request, _("The price is set. It holds for new quotes from now on."))
    return answer


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


def _named(error: Refusal) -> Refusal:
    """Messages by the names of the form's fields."""
    if not isinstance(error, InvalidRequest):
        return error
    names = {api: field for field, api in _PRICES.items()}
    said = error.extra["errors"]
    return InvalidRequest({names.get(name, name): texts for name, texts in said.items()})


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
            lambda _place: f"{_HERE}#disks",
        )
    except InvalidRequest as error:
        said = "; ".join(text for texts in error.extra["errors"].values() for text in texts)
        refusal = InvalidRequest(error.extra["errors"], _("The price was not changed: ") + said)
        return _offers(request, principal, refusal)
    messages.success(
        request, _("The price is set. It holds for volumes made from now on; others keep theirs.")
    )
    return answer


urls = [
    path("provider/offers", offers),
    path("provider/offers/<str:offer>/price", price),
    path("provider/datacenters/<str:datacenter>/disk-price", set_disk_price),
]
