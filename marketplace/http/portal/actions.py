"""Stop, start, restart, retry and terminate: first the consequences, then the deed.

One page serves all; what it says of each action is data. As a dialog it comes by htmx, without it
the same is a page of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kernel.errors import Refusal
from kernel.money import parse_micro
from marketplace.accounts.access import Principal
from marketplace.http.portal.base import is_htmx, once_to, page, piece, show, status_of
from marketplace.models import Rental
from marketplace.rentals import read
from marketplace.rentals.act import Asked, act
from marketplace.rentals.forecast import restart_forecasts
from marketplace.rentals.stop import check_legal
from marketplace.volumes import mounts

Text = str | Promise


@dataclass(frozen=True)
class Action:
    """question takes the rental's name; points are (icon, sentence); refrain is the way back."""

    label: Text
    question: Text
    points: tuple[tuple[str, Text], ...]
    refrain: Text
    danger: bool = False
    forecast: bool = False  # say what a later start can expect
    keeps: bool = False  # say what the volumes go on costing


_METER_STOPS: Final = _(
    "The meter stops the moment you confirm; what our own clean-up takes is free."
)
_DISK_GOES: Final = _("What lies on the machine's own disk is deleted; volumes are kept.")
_START_FREE: Final = _(
    "Placing it and downloading its image are free; the meter opens when the cards are proven."
)
_SAME_PRICE: Final = _("The price is the one that was fixed when you rented it.")
_HOLD: Final = _("One hour is held on your balance.")
_GONE_FOR_GOOD: Final = _(
    "The machine and everything on its disk are deleted. This cannot be undone."
)

ACTIONS: Final[dict[str, Action]] = {
    "stop": Action(
        label=_("Stop"),
        question=_("Stop {name}?"),
        points=(
            ("clock", _METER_STOPS),
            ("alert", _DISK_GOES),
            ("card", _("The cards are given back: starting again needs free ones.")),
        ),
        refrain=_("Keep it running"),
        forecast=True,
        keeps=True,
    ),
    "start": Action(
        label=_("Start"),
        question=_("Start {name} again?"),
        points=(("clock", _START_FREE), ("card", _HOLD), ("document", _SAME_PRICE)),
        refrain=_("Leave it stopped"),
    ),
    "restart": Action(
        label=_("Restart"),
        question=_("Restart {name}?"),
        points=(
            ("card", _("It keeps its very cards; nobody can take them in between.")),
            ("alert", _DISK_GOES),
            ("clock", _START_FREE),
        ),
        refrain=_("Keep it running"),
    ),
    "retry": Action(
        label=_("Try again"),
        question=_("Try {name} again?"),
        points=(("clock", _START_FREE), ("card", _HOLD), ("document", _SAME_PRICE)),
        refrain=_("Leave it"),
    ),
    "terminate": Action(
        label=_("Terminate"),
        question=_("Terminate {name}?"),
        points=(
            ("clock", _METER_STOPS),
            ("alert", _GONE_FOR_GOOD),
            ("card", _("The unused part of the held hour returns to your balance.")),
            ("document", _("The rental stays readable with its timeline and charges.")),
        ),
        refrain=_("Keep it"),
        danger=True,
        keeps=True,
    ),
}


@page(scope="rentals:write")
def confirm(request: HttpRequest, principal: Principal, rental: str, action: str) -> HttpResponse:
    """GET: the consequences, in a dialog or on a page. POST: the deed."""
    refusal = None
    if request.method == "POST":
        try:
            return once_to(
                None,
                lambda: act(acting=principal, rental_id=rental, asked=Asked(action)),
                lambda changed: f"/rentals/{changed.public_id}",
            )
        except Refusal as error:
            refusal = error
    found, possible = read.get(principal, rental), True
    if request.method != "POST":
        try:
            check_legal(found, action)
        except Refusal as error:
            if is_htmx(request):
                raise
            refusal, possible = error, False
    context = {**_context(found, action), "possible": possible}
    if is_htmx(request):
        return piece(request, "portal/rental/act_dialog.html", context)
    return show(
        request,
        principal,
        "portal/rental/act_page.html",
        {**context, "refusal": refusal},
        status=status_of(refusal),
    )


def _costly(rental: Rental) -> list[dict[str, Any]]:
    """Its volumes that cost something, whatever becomes of the machine."""
    mounted = mounts.describe([rental])[rental.id]
    return [mount for mount in mounted if parse_micro(mount["per_hour"])]


def _context(rental: Rental, action: str) -> dict[str, Any]:
    words = ACTIONS[action]
    name = rental.name or rental.public_id
    forecast = restart_forecasts([rental], as_if_stopped=True) if words.forecast else {}
    return {
        "rental": {"id": rental.public_id, "name": rental.name},
        "action": action,
        "words": words,
        "question": str(words.question).format(name=name),
        "forecast": forecast.get(rental.id),
        "disks": _costly(rental) if words.keeps else [],
    }


urls = [path(f"rentals/<str:rental>/{name}", confirm, {"action": name}) for name in ACTIONS]
