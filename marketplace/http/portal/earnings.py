"""What a provider's cards earned, per day and card, and why an offer is rented or is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing.contracts.meters import MeterKind
from billing.facade import payouts as billing
from kernel.clock import now
from kernel.errors import NotFound
from kernel.money import MICRO
from marketplace.accounts.access import Principal
from marketplace.catalog import publish
from marketplace.catalog.registry import by_slug
from marketplace.catalog.visibility import visibility
from marketplace.http.portal.base import page, show
from marketplace.http.portal.charts import Chart, Line
from marketplace.models import Offer, Provider
from marketplace.providers import onboard
from marketplace.providers.earned import By, EarnedRow, earned, occupancy
from provisioner.contracts.reliability import ReliabilityView
from provisioner.facade import reliability as records

_SPANS: Final = (7, 30, 90)
_USUAL: Final = 30
_CARDS: Final = 200  # more rows are read by a program, from the API


@page(scope="provider:read")
def earnings(request: HttpRequest, principal: Principal) -> HttpResponse:
    """For the last days, today included; which is not over."""
    provider = onboard.own_provider(principal)
    wanted = request.GET.get("days", str(_USUAL))
    if wanted not in map(str, _SPANS):
        raise NotFound("page")
    to_at = now()
    first = to_at.astimezone(UTC).date() - timedelta(days=int(wanted) - 1)
    from_at = datetime.combine(first, time(), UTC)
    span: dict[str, Any] = {"provider": provider, "from_at": from_at, "to_at": to_at}
    days = earned(by=frozenset({By.DAY}), **span)
    cards = [
        row for row in earned(by=frozenset({By.GPU}), **span) if row.kind == MeterKind.GPU.value
    ]
    sums = _by_day(days, [first + timedelta(days=number) for number in range(int(wanted))])
    context = {
        "spans": _SPANS,
        "span": int(wanted),
        **_totals(days),
        "chart": _chart(sums) if any(micro for _day, micro in sums) else None,
        "days": [_shown(row) for row in reversed(days)],
        "cards": _cards(cards),
        "more": max(0, sum(map(_busy, cards)) - _CARDS),
        "offers": _offers(principal),
        "account": _account_state(provider),
    }
    return show(request, principal, "portal/earnings.html", context)


def _by_day(rows: Sequence[EarnedRow], days: Sequence[date]) -> list[tuple[date, int]]:
    """Cards and disks of a day together; days on which there was nothing as well."""
    sums: dict[date | None, int] = defaultdict(int)
    for row in rows:
        sums[row.day] += row.share_micro
    return [(day, sums[day]) for day in days]


def _chart(sums: Sequence[tuple[date, int]]) -> Chart:
    best = max(sums, key=lambda one: one[1])
    return Chart(
        id="share-per-day",
        title=_("Your share per day"),
        at=[datetime.combine(day, time(), UTC) for day, _micro in sums],
        lines=[Line(_("Cards and disks"), [micro / MICRO for _day, micro in sums])],
        unit="$",
        kind="bars",
        note=_("The best day was {day}. Today is not over.").format(day=best[0]),
        daily=True,
    )


def _totals(days: Sequence[EarnedRow]) -> dict[str, Any]:
    of_cards = [row for row in days if row.kind == MeterKind.GPU.value]
    seconds = sum(row.unit_seconds for row in of_cards)
    there = sum(row.there_seconds or 0 for row in of_cards)
    return {
        "share_micro": sum(row.share_micro for row in days),
        "gpu_hours": _hours(seconds),
        "occupancy": occupancy(seconds, there),
    }


def _shown(row: EarnedRow) -> dict[str, Any]:
    """A row in the words and units of people."""
    card = by_slug().get(row.accelerator or "")
    disk = row.kind != MeterKind.GPU.value
    seat = _("card %(number)d") % {"number": row.number} if row.number is not None else None
    return {
        "day": row.day,
        "disk": disk,
        "card": card.name if card else row.accelerator,
        "node": row.node_name,
        "seat": seat,
        "hours": _hours(row.unit_seconds),
        "occupancy": row.occupancy,
        "share_micro": row.share_micro,
    }


def _busy(row: EarnedRow) -> bool:
    return bool(row.unit_seconds or row.share_micro)


def _cards(rows: Sequence[EarnedRow]) -> list[dict[str, Any]]:
    """Cards that earned, one by one; those of a node that did not, in one row behind them."""
    busy = [_shown(row) for row in rows if _busy(row)][:_CARDS]
    idle: dict[UUID | None, list[EarnedRow]] = defaultdict(list)
    for row in rows:
        if not _busy(row):
            idle[row.node_id].append(row)
    together = []
    for same in idle.values():
        count = ngettext("%(n)d idle card", "%(n)d idle cards", len(same)) % {"n": len(same)}
        together.append({**_shown(same[0]), "seat": count})
    return busy + together[:_CARDS]


def _hours(seconds: int) -> str:
    return f"{Decimal(seconds) / 3600:,.2f}"


def _offers(principal: Principal) -> list[dict[str, Any]]:
    """Every offer with how its placements ended."""
    offers = list(publish.list_offers(principal).exclude(state=Offer.State.ENDED))
    kept = records.reliabilities(group_ids=[offer.group_id for offer in offers])
    names = by_slug()
    return [
        {
            "id": offer.public_id,
            "name": names[offer.group.accelerator].name
            if offer.group.accelerator in names
            else offer.group.accelerator,
            "region": offer.region,
            "state": offer.state,
            **record_of(kept[offer.group_id]),
        }
        for offer in offers
    ]


def record_of(view: ReliabilityView) -> dict[str, Any]:
    sample = view.sample
    return {
        "record": view,
        "reliability": None if view.value_bp is None else Decimal(view.value_bp) / 10_000,
        "started": Decimal(view.started) / sample if sample else None,
    }


def _account_state(provider: Provider) -> str | None:
    try:
        return billing.payout_account(provider_ref=provider.id).state.value
    except NotFound:
        return None


@page(scope="provider:read")
def why(request: HttpRequest, principal: Principal, offer: str) -> HttpResponse:
    """An own offer as the market sees it."""
    view = visibility(acting=principal, offer_id=offer)
    card = by_slug().get(view.offer.group.accelerator)
    context = {
        "view": view,
        "offer": publish.describe_owned(view.offer),
        "name": card.name if card else view.offer.group.accelerator,
        **record_of(view.reliability),
    }
    return show(request, principal, "portal/visibility.html", context)


urls = [
    path("provider/earnings", earnings),
    path("provider/offers/<str:offer>/visibility", why),
]
