"""One offer, its live quote, and the order: everything before the rental exists, on one page."""

from __future__ import annotations

import json
from typing import Any, Final

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from billing import facade as billing
from kernel.errors import InvalidRequest, Refusal
from kernel.money import format_micro, parse_micro
from marketplace.accounts.access import Principal, visible
from marketplace.accounts.idempotency import once, stored
from marketplace.catalog import quote as quotes
from marketplace.catalog import registry, search
from marketplace.catalog.needs import unmet
from marketplace.catalog.templates import has, ports_of
from marketplace.http.pinning import pin_order
from marketplace.http.portal import offer_words
from marketplace.http.portal.base import (
    ORDER,
    SEE_OTHER,
    blame,
    claim_of,
    go,
    new_key,
    page,
    piece,
    show,
    status_of,
)
from marketplace.http.portal.forms import whole_number
from marketplace.http.portal.rent_form import (
    CARRIED,
    LIFETIMES,
    WAITS,
    RentForm,
    ShapeForm,
    address_of,
    order_of,
)
from marketplace.http.portal.templates import logins
from marketplace.models import Offer, Project, Quote, Rental, Secret, SshKey, Template
from marketplace.rentals import way_in
from marketplace.rentals.start import rent
from marketplace.volumes import present as kept
from provisioner.contracts import StorageDomain

_HOURS_A_DAY: Final = 24
_KEYS_SHOWN: Final = 20
_VOLUMES_SHOWN: Final = 50
_YES: Final = ("true", "on")
_LEAST_TOPUP: Final = 5  # dollars
# A refusal after which the same form, sent again, could only be refused again.
_SPENT: Final = {"idempotency_key_reuse"}


@page(public=True)
def offer_page(request: HttpRequest, principal: Principal | None, offer: str) -> HttpResponse:
    """The address may carry an order that was begun (``rent_form.CARRIED``)."""
    row = search.get_offer(offer)
    asked = request.GET.get("gpus", "")
    gpus = max(row.offer.min_gpus, whole_number(asked, row.offer.min_gpus))
    if not _may_rent(principal):
        return show(request, principal, "portal/offer.html", _facts(row, gpus))
    assert principal is not None
    carried = {name: request.GET[name] for name in CARRIED if request.GET.get(name)}
    begun = {
        **_defaults(principal, row.offer, gpus),
        **carried,
        "gpus": gpus,
        "interruptible": carried.get("interruptible") in _YES,
        "failover": carried.get("failover") in _YES,
    }
    form = RentForm(initial=begun, projects=_projects(principal))
    return _rent_page(request, principal, row, form)


@require_POST
@page(scope="rentals:write")
def quote_piece(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """A fresh quote for the shape in the form; refusals stand where the price would."""
    quote, refusal = _quote(principal, offer, ShapeForm(request.POST))
    context = {
        "quote_refusal": refusal,
        "offer": {"id": offer},
        **_priced_context(request, principal, offer, quote, refusal),
    }
    return piece(request, "portal/quote.html", context, status=status_of(refusal))


@require_POST
@page(scope="rentals:write")
def price_page(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """The same for a reader without scripts: the whole page with the quote in it."""
    return _priced(request, principal, offer)


@require_POST
@page(scope="rentals:write")
def rent_now(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """Rent once per form, then follow the rental; a refusal keeps what was filled in.

    Nothing is rented at a price that was not seen: without a quote the answer is the price, unless
    the order is to wait for cards, at the offer's price at most.
    """
    waits = bool(request.POST.get("wait"))
    if not request.POST.get("quote") and not waits:
        return _priced(request, principal, offer)
    row = search.get_offer(offer)
    form = RentForm(_sent(request, waits), projects=_projects(principal), waits=waits)
    refusal: Refusal | None = None
    if form.is_valid():
        try:
            claim = claim_of(request, principal)
            secrets = request.POST.getlist("secrets")
            order = order_of(principal, form, row.offer, secrets=secrets)
            if stored(claim) is None:
                order = pin_order(principal, order)
            rendered = rent(acting=principal, order=order, claim=claim, render=_where)
        except Refusal as error:
            refusal = blame(form, error)
            if error.slug == "insufficient_funds":
                request.session[ORDER] = address_of(offer, request.POST)
        else:
            request.session.pop(ORDER, None)
            return go(json.loads(rendered.body)["location"])
    else:
        refusal = InvalidRequest(
            {name: list(map(str, errors)) for name, errors in form.errors.items()}
        )
    return _rent_page(request, principal, row, form, refusal=refusal)


def _sent(request: HttpRequest, waits: bool) -> QueryDict:
    """What was sent; how long it waits is chosen beside the button, where there is one."""
    if not waits or not request.POST.get("wait_for"):
        return request.POST
    sent = request.POST.copy()
    sent["queue"] = request.POST.get("wait_for", "")
    return sent


def _priced(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    row = search.get_offer(offer)
    form = RentForm(request.POST, projects=_projects(principal))
    quote, refusal = _quote(principal, offer, ShapeForm(request.POST))
    form.full_clean()
    form.errors.clear()  # the order is not sent yet: only the price was asked
    return _rent_page(request, principal, row, form, quote=quote, quote_refusal=refusal)


def _priced_context(
    request: HttpRequest,
    principal: Principal,
    offer: str,
    quote: dict[str, Any] | None,
    refusal: Refusal | None,
) -> dict[str, Any]:
    """Beside a price: what is missing to pay its first hour, and the way back from paying it.
    Without cards: whether the order can wait for some."""
    context: dict[str, Any] = {"quote": quote}
    if quote is not None and (missing := quote["missing_micro"]) > 0:
        request.session[ORDER] = address_of(offer, request.POST)
        dollars = max(_LEAST_TOPUP, -(-missing // 1_000_000))
        context |= {"missing": missing, "top_up": f"{dollars}.00"}
        context["may_pay"] = "billing:write" in principal.scopes
    if refusal is not None and refusal.slug == "offer_taken":
        row = search.get_offer(offer)
        context["waits"] = list(WAITS.items()) if search.on_sale_now(row.offer) else []
        context["wait_cap"] = row.offer.price_micro_h
        context["wait_region"] = row.offer.region
    return context


def _where(rental: Rental) -> tuple[int, Any]:
    return SEE_OTHER, {"location": f"/rentals/{rental.public_id}"}


def _may_rent(principal: Principal | None) -> bool:
    return (
        principal is not None
        and principal.organization is not None
        and "rentals:write" in principal.scopes
    )


def _quote(
    principal: Principal, offer: str, shape: ShapeForm
) -> tuple[dict[str, Any] | None, Refusal | None]:
    if not shape.is_valid():
        fields = {name: list(map(str, errors)) for name, errors in shape.errors.items()}
        return None, InvalidRequest(fields)
    held: list[Quote] = []

    def act() -> None:
        held.append(
            quotes.create_quote(
                acting=principal,
                offer_id=offer,
                gpus=shape.cleaned_data["gpus"],
                disk_gib=shape.cleaned_data["disk_gib"],
                interruptible=shape.cleaned_data["interruptible"],
                volume_gib=shape.cleaned_data["new_gib"],
            )
        )

    try:
        once(None, act, lambda _result: (200, None))
    except Refusal as refusal:
        return None, refusal
    shown = quotes.describe(held[0])
    total = parse_micro(shown["total_per_hour"])
    hold = total + parse_micro(shown["tax"]["per_hour"] or "0")
    missing = hold - billing.balance(org_ref=principal.org.id).spendable_micro
    return {
        **shown,
        "per_day": format_micro(total * _HOURS_A_DAY),
        "first_hold": format_micro(hold),
        "missing_micro": missing,
    }, None


def _rent_page(
    request: HttpRequest,
    principal: Principal,
    row: search.OfferRow,
    form: RentForm,
    *,
    refusal: Refusal | None = None,
    quote: dict[str, Any] | None = None,
    quote_refusal: Refusal | None = None,
) -> HttpResponse:
    gpus = whole_number(str(form["gpus"].value() or ""), row.offer.min_gpus)
    sent = request.POST.get("idempotency_key", "")
    fresh = not sent or (refusal is not None and refusal.slug in _SPENT)
    context = {
        **_facts(row, gpus),
        "can_rent": True,
        "form": form,
        "refusal": refusal,
        "quote_refusal": quote_refusal,
        **_priced_context(request, principal, row.offer.public_id, quote, quote_refusal),
        "idempotency_key": new_key() if fresh else sent,
        "gpu_choices": _gpu_choices(row.offer, gpus),
        "chosen_gpus": gpus,
        "templates": _templates(principal, row.offer),
        "ssh_keys": _ssh_keys(principal),
        "secrets": visible(Secret, principal).order_by("name"),
        "chosen_secrets": request.POST.getlist("secrets"),
        "logins": logins(principal),
        "lifetimes": _lifetimes(),
        "volumes": _volumes(principal, row.offer),
        "included_disk": quotes.included_disk_gib(row.offer, 1),
    }
    status = status_of(refusal or quote_refusal)
    if form.errors and status == 200:
        status = 422
    return show(request, principal, "portal/offer.html", context, status=status)


def _facts(row: search.OfferRow, gpus: int) -> dict[str, Any]:
    known = registry.by_slug()
    offer = search.describe(search.OfferRow(row.offer, gpus, row.rank_by), known)
    card = known.get(offer["accelerator"])
    return {
        "offer": {**offer, "name": card.name if card else offer["accelerator"]},
        "gpus": gpus,
        "is_shut": way_in.is_shut(row.offer),
        "is_closed": way_in.is_closed(),
    }


def _defaults(principal: Principal, offer: Offer, gpus: int) -> dict[str, Any]:
    fitting = [row for row in _templates(principal, offer) if not row["missing"]]
    plain = next((row for row in fitting if row["slug"] == "ubuntu"), None)
    chosen = plain or (fitting[0] if fitting else None)
    keys = _ssh_keys(principal)
    ssh = keys[0].public_id if keys else "paste"
    return {
        "gpus": gpus,
        "disk_gib": min(quotes.DEFAULT_DISK_GIB, quotes.included_disk_gib(offer, gpus)),
        "template": chosen["id"] if chosen else "",
        "ssh": "none" if way_in.is_shut(offer) else ssh,
        "lifetime": "8",
    }


def _gpu_choices(offer: Offer, asked: int) -> list[int]:
    """Up to eight each; beyond that powers of two, which is how machines are filled."""
    most = max(offer.group.largest_block, offer.min_gpus)
    every = range(offer.min_gpus, most + 1)
    some = {n for n in every if n <= 8 or n & (n - 1) == 0 or n == most}
    return sorted(some | {asked})


def _templates(principal: Principal, offer: Offer) -> list[dict[str, Any]]:
    """The templates with what this card lacks for each; those that fit come first."""
    card = has(offer)

    def missing(template: Template) -> list[str]:
        needs = dict(template.needs)
        named = way_in.are_named(ports_of(template)) and way_in.is_shut(offer)
        return [
            *(offer_words.need(name, needs[name]) for name in unmet(needs, card)),
            *[_("a way in")] * named,
        ]

    rows = [
        {
            "id": template.public_id,
            "slug": template.slug,
            "name": template.name,
            "description": template.description,
            "missing": missing(template),
        }
        for template in visible(Template, principal).filter(active=True).order_by("id")
    ]
    return sorted(rows, key=lambda row: bool(row["missing"]))


def _projects(principal: Principal) -> list[tuple[str, str]]:
    return [(one.public_id, one.name) for one in visible(Project, principal).order_by("name")]


def _volumes(principal: Principal, offer: Offer) -> list[dict[str, Any]]:
    """Those in the offer's data centre that no machine has now."""
    if offer.group.storage_domain == StorageDomain.NONE:
        return []
    rows = kept.volumes(principal).filter(datacenter=offer.datacenter, removed_at=None)
    shown = kept.describe_many(list(rows.order_by("-id")[:_VOLUMES_SHOWN]))
    return [volume for volume in shown if "attach" in volume["actions"]]


def _ssh_keys(principal: Principal) -> list[SshKey]:
    return list(visible(SshKey, principal).order_by("-id")[:_KEYS_SHOWN])


def _lifetimes() -> list[tuple[str, Any, str]]:
    return [
        (key, label, _("ends by itself") if hours else _("until you end it or the balance does"))
        for key, (label, hours) in LIFETIMES.items()
    ]


urls = [
    path("offers/<str:offer>", offer_page),
    path("offers/<str:offer>/quote", quote_piece),
    path("offers/<str:offer>/price", price_page),
    path("offers/<str:offer>/rent", rent_now),
]
