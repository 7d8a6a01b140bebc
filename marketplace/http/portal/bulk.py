"""One action on several rentals: first what it does to each, then the deed, one by one.

Each rental is a transaction of its own, so one that refuses keeps none of the others from ending.
"""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from kernel.errors import Refusal
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal.actions import ACTIONS
from marketplace.http.portal.base import go, page, show
from marketplace.models import Rental
from marketplace.rentals import read
from marketplace.rentals.act import Asked, act
from marketplace.rentals.present import describe_many

# As many as the list shows at once.
MOST: Final = 50
OFFERED: Final = ("stop", "start", "terminate")


@page(scope="rentals:write")
def bulk(request: HttpRequest, principal: Principal) -> HttpResponse:
    """GET: what the action does to each of the chosen. POST: do it."""
    given = request.POST if request.method == "POST" else request.GET
    action = given.get("action", "")
    chosen = given.getlist("rental")[:MOST]
    if action not in OFFERED:
        raise Refusal(
            "invalid_filter",
            f"One of {', '.join(OFFERED)} can be done to several rentals.",
            filter="action",
        )
    if not chosen:
        messages.warning(request, _("Choose rentals in the list first."))
        return go("/rentals")
    if request.method == "POST":
        return _do(request, principal, action, chosen)
    rentals = [read.get(principal, rental) for rental in chosen]
    rows = describe_many(rentals)
    words = ACTIONS[action]
    able = [row for row in rows if action in row["actions"]]
    context = {
        "action": action,
        "words": words,
        "able": able,
        "unable": [row for row in rows if action not in row["actions"]],
        "question": _question(str(words.label), len(able)),
    }
    return show(request, principal, "portal/rental/bulk.html", context)


def _question(label: str, count: int) -> str:
    return ngettext("%(label)s %(n)d rental?", "%(label)s %(n)d rentals?", count) % {
        "label": label,
        "n": count,
    }


def _do(request: HttpRequest, principal: Principal, action: str, chosen: list[str]) -> HttpResponse:
    done, refused = 0, []
    for rental in chosen:
        try:
            _act(principal, action, rental)
        except Refusal as refusal:
            refused.append(f"{rental}: {refusal.detail}")
        else:
            done += 1
    if done:
        text = ngettext("%(n)d rental: %(done)s.", "%(n)d rentals: %(done)s.", done)
        messages.success(request, text % {"n": done, "done": ACTIONS[action].label})
    for text in refused:
        messages.error(request, text)
    return go("/rentals")


def _act(principal: Principal, action: str, rental: str) -> None:
    def deed() -> Rental:
        return act(acting=principal, rental_id=rental, asked=Asked(action))

    def nothing(_rental: Rental) -> tuple[int, Any]:
        return 200, None

    once(None, deed, nothing)


urls = [path("rentals/bulk", bulk)]
