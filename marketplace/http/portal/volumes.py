"""Volumes: what is kept, making one, enlarging or renaming it, deleting it with a confirmation."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _

from kernel.errors import Refusal
from kernel.money import parse_micro
from marketplace.accounts.access import Principal
from marketplace.catalog.registry import datacenters
from marketplace.http.portal.base import (
    blame,
    claim_of,
    once_to,
    page,
    posted,
    show,
    show_form,
    status_of,
)
from marketplace.http.portal.forms import VolumeChangeForm, VolumeForm
from marketplace.http.portal.tags import money
from marketplace.rentals import read
from marketplace.rentals.present import describe_charge
from marketplace.volumes import keep, present

_SHOWN = 100
_CHARGES = 24  # a day of them


def _charges(principal: Principal, volume: str, currency: str) -> list[dict[str, Any]]:
    """The latest, newest first, for those who may see what is paid."""
    if "billing:read" not in principal.scopes:
        return []
    found = read.disk_charges(principal, volume, newest=_CHARGES)
    return [describe_charge(charge, currency, size) for charge, size in reversed(found)]


def _place(row: dict[str, Any]) -> str:
    """A data centre as a choice, short enough for a narrow list."""
    price = money(row["disk_price"], row["currency"]) if parse_micro(row["disk_price"]) else ""
    return f"{row['name']}, {row['region']}: {price or _('no charge')}"


@page(scope="rentals:read")
def volume_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    places = [(row["id"], _place(row)) for row in datacenters() if row["storage"] != "none"]
    form, refusal = VolumeForm(posted(request), places=places), None
    if request.method == "POST":
        principal.require("rentals:write")
        if form.is_valid():
            given = form.cleaned_data
            try:
                answer = once_to(
                    claim_of(request, principal),
                    lambda: keep.create(
                        acting=principal,
                        name=given["name"],
                        size_gib=given["size_gib"],
                        datacenter_id=given["datacenter"],
                    ),
                    lambda made: f"/volumes/{made.public_id}",
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("The volume is ordered. Mount it when you rent."))
                return answer
    rows = present.volumes(principal).filter(removed_at=None).order_by("-id")[:_SHOWN]
    context = {
        "volumes": present.describe_many(list(rows)),
        "may_write": "rentals:write" in principal.scopes,
        "places": places,
    }
    return show_form(
        request, principal, "portal/volumes.html", form, refusal=refusal, context=context
    )


@page(scope="rentals:read")
def volume_page(request: HttpRequest, principal: Principal, volume: str) -> HttpResponse:
    """GET: what it is. POST: another name, or a larger size."""
    shown = present.describe(present.get(principal, volume))
    start = {"name": shown["name"], "size_gib": shown["size_gib"]}
    form, refusal = VolumeChangeForm(posted(request), initial=start), None
    if request.method == "POST":
        principal.require("rentals:write")
        if form.is_valid():
            try:
                answer = once_to(
                    None,
                    lambda: keep.change(acting=principal, volume_id=volume, **form.cleaned_data),
                    lambda changed: f"/volumes/{changed.public_id}",
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("Your change is stored."))
                return answer
    context = {
        "volume": shown,
        "charges": _charges(principal, volume, shown["currency"]),
        "may_write": "rentals:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/volume.html", form, refusal=refusal, context=context
    )


@page(scope="rentals:write")
def delete(request: HttpRequest, principal: Principal, volume: str) -> HttpResponse:
    """GET: the consequences. POST with the page's token: the end; without it nothing happens."""
    refusal: Refusal | None = None
    if request.method == "POST":
        try:
            return once_to(
                None,
                lambda: keep.remove(
                    acting=principal,
                    volume_id=volume,
                    confirm_token=request.POST.get("confirm_token"),
                ),
                lambda gone: f"/volumes/{gone.public_id}",
            )
        except Refusal as error:
            refusal = error
    context: dict[str, Any] = {
        "volume": present.describe(present.get(principal, volume)),
        "confirm_token": keep.confirmation(acting=principal, volume_id=volume),
        "refusal": refusal,
    }
    return show(request, principal, "portal/volume_delete.html", context, status=status_of(refusal))


urls = [
    path("volumes", volume_list),
    path("volumes/<str:volume>", volume_page),
    path("volumes/<str:volume>/delete", delete),
]
