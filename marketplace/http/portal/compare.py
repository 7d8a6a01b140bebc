"""Offers beside each other: every fact a row, and the rows that differ are marked.

The address is all there is to it, so a comparison can be kept and passed on; an offer that is gone
by then is said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.money import format_micro
from marketplace.accounts.access import Principal
from marketplace.catalog import registry, search
from marketplace.catalog.price import HOURS_PER_MONTH
from marketplace.http.portal.base import page, show
from marketplace.http.portal.forms import whole_number
from marketplace.http.portal.offer_words import EGRESS, spelled
from marketplace.http.portal.tags import MISSING, gib, money, percent, when
from marketplace.http.portal.words import Text

# As many as can be read beside each other on a desk.
MOST: Final = 4
Shown = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """A line of the table. ``best``: of the numbers behind it, the one to prefer."""

    label: Text
    text: Callable[[Shown], Any]
    number: Callable[[Shown], Any] | None = None
    best: Callable[[list[Any]], Any] = max


def _field(name: str) -> Callable[[Shown], Any]:
    return lambda offer: offer[name]


def _words(name: str) -> Callable[[Shown], str]:
    return lambda offer: spelled(name, offer[name]) if offer[name] else MISSING


def _speed(name: str, unit: str) -> Callable[[Shown], str]:
    return lambda offer: f"{offer[name]:g} {unit}" if offer[name] is not None else MISSING


def _reliability(offer: Shown) -> str:
    found = offer["reliability"]
    if found["value"] is None:
        return _("too few placements (%(n)s)") % {"n": found["sample"]}
    return _("%(share)s of %(n)s") % {"share": percent(found["value"]), "n": found["sample"]}


def _interruptible(offer: Shown) -> str:
    return money(offer["interruptible_price_per_gpu_hour"])


FACTS: Final[Sequence[Fact]] = (
    Fact(
        gettext_lazy("Per GPU and hour"),
        lambda o: money(o["price_per_gpu_hour"]),
        lambda o: o["micro"],
        min,
    ),
    Fact(gettext_lazy("All in, per hour"), lambda o: money(o["all_in_per_hour"])),
    Fact(gettext_lazy("All in, per month"), lambda o: money(o["per_month"])),
    Fact(gettext_lazy("Interruptible, per GPU and hour"), _interruptible),
    Fact(gettext_lazy("Volume, per GiB and month"), lambda o: money(o["disk_price"])),
    Fact(gettext_lazy("Free now"), _field("gpus_available")),
    Fact(gettext_lazy("In one machine at most"), _field("largest_block"), _field("largest_block")),
    Fact(gettext_lazy("Memory per card"), lambda o: gib(o["memory_gib"]), _field("memory_gib")),
    Fact(gettext_lazy("vCPU"), lambda o: f"{o['vcpus']:g}", _field("vcpus")),
    Fact(gettext_lazy("RAM"), lambda o: gib(o["ram_gib"]), _field("ram_gib")),
    Fact(gettext_lazy("Disk, included"), lambda o: gib(o["disk_gib"]), _field("disk_gib")),
    Fact(gettext_lazy("Kind of disk"), lambda o: o["disk_kind"] or MISSING),
    Fact(gettext_lazy("Disk reads"), _speed("disk_read_mib_s", "MiB/s"), _field("disk_read_mib_s")),
    Fact(
        gettext_lazy("Disk writes"), _speed("disk_write_mib_s", "MiB/s"), _field("disk_write_mib_s")
    ),
    Fact(gettext_lazy("Network, down"), _speed("net_down_mbps", "Mbit/s"), _field("net_down_mbps")),
    Fact(gettext_lazy("Benchmark"), _speed("benchmark", ""), _field("benchmark")),
    Fact(gettext_lazy("Reliability"), _reliability, lambda o: o["reliability"]["value"]),
    Fact(gettext_lazy("Interconnect"), _words("interconnect")),
    Fact(gettext_lazy("Driver"), lambda o: o["driver"] or MISSING),
    Fact(gettext_lazy("CUDA"), lambda o: o["cuda_max"] or MISSING),
    Fact(gettext_lazy("Region"), lambda o: f"{o['region']}, {o['country']}"),
    Fact(gettext_lazy("Owner"), _words("ownership")),
    Fact(gettext_lazy("Tier"), _words("tier")),
    Fact(gettext_lazy("Isolation"), _words("isolation")),
    Fact(gettext_lazy("Volumes"), _words("storage")),
    Fact(gettext_lazy("Way in"), lambda o: spelled("ssh", str(o["ssh"]).lower())),
    Fact(gettext_lazy("Machines reach"), lambda o: EGRESS[o["egress"]]),
    Fact(
        gettext_lazy("For rent until"),
        lambda o: when(o["available_until"]) if o["available_until"] else _("no end is known"),
    ),
)


@page(public=True)
def compare(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """``?offer=…&offer=…&gpus=…``: as many as four; what is more is left out and said."""
    asked = list(dict.fromkeys(request.GET.getlist("offer")))
    found, gone = search.get_offers(asked[:MOST])
    gpus = whole_number(request.GET.get("gpus", ""), 1)
    offers = [_shown(row, gpus) for row in found]
    context = {
        "offers": [
            {**offer, "less": _address([o for o in asked if o != offer["id"]], gpus)}
            for offer in offers
        ],
        "gone": [text[:40] for text in gone],
        "left_out": len(asked[MOST:]),
        "most": MOST,
        "gpus": gpus,
        "rows": rows(offers),
        "address": _address(asked[:MOST], gpus),
    }
    return show(request, principal, "portal/compare.html", context)


def rows(offers: Sequence[Shown]) -> list[dict[str, Any]]:
    """Each fact with its cells; ``differs``: not the same for all, which only two can be."""
    lines = []
    for fact in FACTS:
        texts = [str(fact.text(offer)) for offer in offers]
        differs = len(set(texts)) > 1
        known = [fact.number(offer) for offer in offers] if fact.number else []
        numbers = [number for number in known if number is not None]
        best = fact.best(numbers) if differs and len(set(numbers)) > 1 else None
        cells = [
            {"value": fact.text(offer), "best": best is not None and known[n] == best}
            for n, offer in enumerate(offers)
        ]
        lines.append({"label": fact.label, "cells": cells, "differs": differs})
    return lines


def _shown(row: search.OfferRow, gpus: int) -> Shown:
    known = registry.by_slug()
    row = replace(row, gpus=max(gpus, row.offer.min_gpus))
    offer = search.describe(row, known)
    card = known.get(offer["accelerator"])
    return {
        **offer,
        "name": card.name if card else offer["accelerator"],
        "micro": row.price_micro_h,
        "per_month": format_micro(row.price_micro_h * row.gpus * HOURS_PER_MONTH),
    }


def _address(offers: Sequence[str], gpus: int) -> str:
    given = {"offer": offers} | ({"gpus": [str(gpus)]} if gpus > 1 else {})
    return f"/compare?{urlencode(given, doseq=True)}"


urls = [path("compare", compare)]
