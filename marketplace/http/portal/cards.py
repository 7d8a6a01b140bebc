"""A page for each card type: what it is, what it costs and where, and how both went."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _

from marketplace.accounts.access import Principal
from marketplace.catalog import registry, search
from marketplace.catalog.cards import CardView, card_view
from marketplace.catalog.history import (
    DAYS,
    DEFAULT_DAYS,
    CardHistory,
    history,
    stock_steps,
)
from marketplace.catalog.needs import whole_gib
from marketplace.catalog.query import OfferQuery
from marketplace.http.portal.base import page, show
from marketplace.http.portal.charts import Chart, Line

# The cheapest of them; the catalogue has the rest.
_OFFERS: Final = 5
# Hours to a step of the chart of stock: some 180 steps, as many as a chart is wide on a phone.
_STEP: Final = {7: 1, 30: 4, 90: 12}
# How long a stranger's browser may show the same page again, in seconds: stock moves by the second,
# and what is rented is checked then.
_FRESH: Final = 60
_MICRO: Final = 1_000_000


@page(public=True)
def card_list(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """Every whole card, and the parts of cards that somebody offers; what can be had first."""
    known = registry.by_slug()
    rows = [
        {**card, "maker": known[card["slug"]].vendor_name}
        for card in registry.accelerators()
        if not card["partition"] or card["in_stock"]
    ]
    rows.sort(key=lambda row: (row["in_stock"] == 0, row["maker"], row["name"]))
    context = {
        "free": [row for row in rows if row["in_stock"]],
        "rest": [row for row in rows if not row["in_stock"]],
    }
    return _public(principal, show(request, principal, "portal/cards.html", context))


@page(public=True)
def card_page(request: HttpRequest, principal: Principal | None, card: str) -> HttpResponse:
    asked = request.GET.get("days", "")
    days = int(asked) if asked in map(str, DAYS) else DEFAULT_DAYS
    view, found = card_view(card, acting=principal), history(card, days=days)
    cheapest = search.search(OfferQuery(accelerator=(card,)), limit=_OFFERS)
    known = registry.by_slug()
    context = {
        "card": view.card,
        "memory_gib": whole_gib(view.card.memory_mib),
        "view": view,
        "offers": [search.describe(row, known) for row in cheapest.rows],
        "measured": _measured(view),
        "prices": _prices(found),
        "stock": _stock(found, days),
        "days": days,
        "periods": DAYS,
    }
    return _public(principal, show(request, principal, "portal/card.html", context))


def _public(principal: Principal | None, answer: HttpResponse) -> HttpResponse:
    """A stranger's page has nothing of anybody in it and may be shown again for a moment."""
    if principal is None:
        patch_cache_control(answer, private=True, max_age=_FRESH)
    return answer


def _measured(view: CardView) -> list[tuple[str, str]]:
    """What was measured of any offer, as (what, from - to)."""
    names = {
        "benchmark": (_("Benchmark of the machine (the reference is 100)"), ""),
        "disk_read_mib_s": (_("Disk reads"), " MiB/s"),
        "disk_write_mib_s": (_("Disk writes"), " MiB/s"),
        "net_down_mbps": (_("Network, down"), " Mbit/s"),
    }
    return [
        (label, _between(*view.measured[name]) + unit)
        for name, (label, unit) in names.items()
        if name in view.measured
    ]


def _between(low: float, high: float) -> str:
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} – {high:,.0f}"


def _prices(found: CardHistory) -> Chart:
    def values(name: str) -> list[float | None]:
        micro = [getattr(day, name) for day in found.days]
        return [None if each is None else each / _MICRO for each in micro]

    return Chart(
        id="prices",
        title=_("Price per GPU and hour"),
        at=[_midnight(day.day) for day in found.days],
        lines=[
            Line(_("Lowest asked"), values("lowest_micro")),
            Line(_("Median asked"), values("median_micro")),
            Line(_("Paid on average"), values("rented_micro"), dashed=True),
        ],
        unit="$/h",
        note=_("by the day; paid is shown where at least three rent"),
        daily=True,
    )


def _stock(found: CardHistory, days: int) -> Chart:
    hours = _STEP[days]
    steps = stock_steps(found, hours=hours)
    return Chart(
        id="stock",
        title=_("Cards on sale"),
        at=[found.since + number * timedelta(hours=hours) for number in range(len(steps))],
        lines=[
            Line(_("Free"), [step.free if step else None for step in steps]),
            Line(_("On sale"), [step.total if step else None for step in steps]),
        ],
        kind="steps",
        note=_("by the hour") if hours == 1 else _("each step %(n)s hours") % {"n": hours},
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


urls = [path("cards", card_list), path("cards/<str:card>", card_page)]
