"""The list of rentals, one rental followed live, and the evidence of a charge."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _

from kernel.errors import Refusal
from kernel.money import CURRENCY
from kernel.text import clean
from marketplace.accounts.access import Principal
from marketplace.catalog.registry import by_slug
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal import actions
from marketplace.http.portal.base import page, piece, show
from marketplace.http.portal.live import look
from marketplace.http.portal.log import log_panel
from marketplace.rentals import read
from marketplace.rentals.present import describe_charge, describe_evidence, describe_many
from marketplace.rentals.state import FAILED, STATES, TERMINATED

_PAGE = 50
_OVER = frozenset({FAILED, TERMINATED})
_SHOWN: dict[str, frozenset[str]] = {"": STATES, "live": STATES - _OVER, "ended": _OVER}


@page(scope="rentals:read")
def rental_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    which = request.GET.get("show", "")
    if which not in _SHOWN:
        raise Refusal(
            "invalid_filter",
            "The list shows all rentals, the live ones or the ended ones.",
            filter="show",
        )
    found = read.rentals(principal)
    if which:
        found = found.filter(state__in=_SHOWN[which])
    rows, following = keyset_page(
        found, order=("-id",), cursor=request.GET.get("cursor"), limit=_PAGE
    )
    names = by_slug()
    shown = [
        {**row, "accelerator_name": _name(names, row["accelerator"])} for row in describe_many(rows)
    ]
    context = {
        "rentals": shown,
        "which": which,
        "tabs": [("", _("All")), ("live", _("Live")), ("ended", _("Ended"))],
        "next_cursor": following,
        "more_query": urlencode({**({"show": which} if which else {}), "cursor": following}),
    }
    return show(request, principal, "portal/rentals.html", context)


def _name(names: dict[str, Any], slug: str) -> str:
    return names[slug].name if slug in names else slug


@page(scope="rentals:read")
def rental_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    found = read.get(principal, rental)
    seen = look(found)
    context = {
        "log": log_panel(found),
        "rental": seen.rental,
        "sections": seen.sections,
        "every": seen.every,
        "seen": seen.seen,
    }
    return show(request, principal, "portal/rental.html", context)


@page(scope="rentals:read")
def rental_live(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """What changed since the page last looked; 204 when nothing did."""
    present = look(read.get(principal, rental))
    changed = present.changed(request.GET.dict())
    if not changed and request.GET.get("every") == str(present.every):
        return HttpResponse(status=204)
    context = {
        "rental": present.rental,
        "changed": changed,
        "every": present.every,
        "seen": present.seen,
    }
    return piece(request, "portal/rental/live.html", context)


@page(scope="rentals:read")
def evidence(request: HttpRequest, principal: Principal, charge: str) -> HttpResponse:
    line, size, proof = read.evidence(principal, charge)
    context = {
        "charge": describe_charge(line, CURRENCY, size),
        "evidence": describe_evidence(line, proof, size),
        "devices": _devices(proof.proof),
    }
    return show(request, principal, "portal/evidence.html", context)


def _devices(proof: dict[str, Any]) -> list[dict[str, str]]:
    """The cards that the machine reported before the meter opened, as clean text."""
    listed = proof.get("devices")
    return [
        {name: clean(device.get(name, "")) for name in ("uid", "model", "memory_mib")}
        for device in (listed if isinstance(listed, list) else [])
        if isinstance(device, dict)
    ]


urls = [
    path("rentals", rental_list),
    path("rentals/<str:rental>", rental_page),
    path("rentals/<str:rental>/live", rental_live),
    *actions.urls,
    path("charges/<str:charge>", evidence),
]
