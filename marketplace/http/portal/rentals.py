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
from marketplace.http.portal import actions, bulk, edit, rental_charts
from marketplace.http.portal.base import money, page, piece, show
from marketplace.http.portal.live import look
from marketplace.http.portal.log import log_panel
from marketplace.models import Organization, Rental
from marketplace.rentals import changes, read
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
    version = changes.version_of_team(principal.org.id)
    found = read.rentals(principal)
    if which:
        found = found.filter(state__in=_SHOWN[which])
    rows, following = keyset_page(
        found, order=("-id",), cursor=request.GET.get("cursor"), limit=_PAGE
    )
    names = by_slug()
    shown = [
        {
            **row,
            "accelerator_name": _name(names, row["accelerator"]),
            "project_name": rental.project.name if rental.project else "",
        }
        for rental, row in zip(rows, describe_many(rows), strict=True)
    ]
    context = {
        "rentals": shown,
        "version": version,
        "which": which,
        "tabs": [("", _("All")), ("live", _("Live")), ("ended", _("Ended"))],
        "may_write": "rentals:write" in principal.scopes,
        "bulk": [(name, actions.ACTIONS[name]) for name in bulk.OFFERED],
        "next_cursor": following,
        "more_query": urlencode({**({"show": which} if which else {}), "cursor": following}),
    }
    return show(request, principal, "portal/rentals.html", context)


def _name(names: dict[str, Any], slug: str) -> str:
    return names[slug].name if slug in names else slug


@page(scope="rentals:read")
def rental_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    found = read.get(principal, rental)
    closed = principal.seen_by is not None
    seen = look(found, inside=not closed)
    context = {
        "log": None if closed else log_panel(found),
        "panel": rental_charts.panel_of(found),
        "rental": seen.rental,
        "sections": seen.sections,
        "every": seen.every,
        "seen": seen.seen,
    }
    return show(request, principal, "portal/rental.html", context)


@page(scope="rentals:read")
def rental_changes(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """An event stream that says when to look again; 204 when nothing can change any more."""
    found = read.get(principal, rental)
    return HttpResponse(status=204) if found.settled_at else _handed_over(found)


@page(scope="rentals:read")
def list_changes(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The same for all live rentals of the organization."""
    return _handed_over(principal.org)


def _handed_over(subject: Rental | Organization) -> HttpResponse:
    """To the streams process, by the proxy in front of both: rights are checked at every
    connection, and no grant is written into a page."""
    return HttpResponse(headers={"X-Accel-Redirect": changes.address_of(subject)})


@page(scope="rentals:read")
def rental_live(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """What changed since the page last looked; 204 when nothing did."""
    present = look(read.get(principal, rental), inside=principal.seen_by is None)
    changed = present.changed(request.GET.dict())
    if not changed and request.GET.get("every") == str(present.every):
        return HttpResponse(status=204)
    context = {
        "rental": present.rental,
        "changed": changed,
        "every": present.every,
        "seen": present.seen,
        **money(principal),
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
    path("rentals/changes", list_changes),
    *bulk.urls,
    path("rentals/<str:rental>", rental_page),
    path("rentals/<str:rental>/changes", rental_changes),
    *rental_charts.urls,
    *edit.urls,
    path("rentals/<str:rental>/live", rental_live),
    *actions.urls,
    path("charges/<str:charge>", evidence),
]
