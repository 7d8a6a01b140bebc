"""Staff page of capacity: cards by type and region, how full they are, and unmet demand."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _

from marketplace.accounts.access import STAFF, Principal
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import page, show
from marketplace.rentals import capacity

_REASONS: Final = {
    "no_capacity": _("no card fits that is free"),
    "offer_taken": _("quoted, and taken by somebody else"),
}


@page(scope=STAFF)
def capacity_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The last seven days beside what is now."""
    found = capacity.capacity(acting=principal)
    names = {slug: card.name for slug, card in by_slug().items()}
    cards: list[dict[str, Any]] = [
        {"card": one, "name": names.get(one.accelerator, one.accelerator)} for one in found.cards
    ]
    wanted = [
        {
            "view": one,
            "name": names.get(one.accelerator, one.accelerator),
            "why": _REASONS.get(one.reason, one.reason),
        }
        for one in found.unmet
    ]
    context = {"since": found.since, "cards": cards, "wanted": wanted}
    return show(request, principal, "staff/capacity.html", context)


urlpatterns = [path("staff/capacity", capacity_page)]
