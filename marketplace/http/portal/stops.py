"""Stops that nobody presses a button for, as their people read them: why, and what helps.

Data, translatable; the time belongs to the rental.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from marketplace.rentals.state import INTERRUPTING, STOPPED, STOPPING

Text = str | Promise


@dataclass(frozen=True)
class Words:
    """Said from the notice on, and when it came. place: where something can be done about it, an
    address that takes the rental's ``id``; label: its link."""

    before: Text
    after: Text
    label: Text = ""
    place: str = ""


# By the rental's reason.
STOPS: Final[dict[str, Words]] = {
    "idle": Words(
        _("Its cards do nothing. When one of them works before that, it runs on."),
        _("Its cards did nothing for as long as you set. Start it again whenever you like."),
        _("Change the idle stop"),
        "/rentals/{id}/edit",
    ),
    "funds": Words(
        _("The balance lasts until then. Top up before that, and it runs on."),
        _("The balance is used up. Top up, then start it again."),
        _("Top up"),
        "/billing#top-up",
    ),
    "budget": Words(
        _("Its budget lasts until then. Raise it before that, and it runs on."),
        _("Its budget is used up. Raise it, then start it again."),
        _("Budgets"),
        "/billing/budgets",
    ),
    "overdue": Words(
        _("An invoice is two weeks overdue. Pay it before that, and it runs on."),
        _("An invoice is overdue. Pay it, then start it again."),
        _("Invoices"),
        "/billing/invoices",
    ),
    "end_date": Words(
        _("The end date that you set is near. It ends for good then."),
        "",
        _("Move the end date"),
        "/rentals/{id}/edit",
    ),
    "outbid": Words(
        _("An order at the full price needs its cards. Save your work to a volume."),
        _("An order at the full price needed its cards. Start it again when cards are free."),
    ),
    "maintenance": Words(
        _("Its owner takes the host down. Save your work to a volume."),
        _("Its owner took the host down. Start it again when cards are free."),
    ),
    "contract_end": Words(
        _("Its owner takes the cards back, as was said when you rented. Save your work."),
        _("Its owner took the cards back, as was said when you rented."),
    ),
    "admin": Words(
        _("A payment of your organization is contested at its bank. Write to support."),
        _("It was stopped by us. Write to support."),
    ),
}


@dataclass(frozen=True)
class Said:
    """What the head of a rental's page says of a stop."""

    text: Text
    label: Text
    place: str
    for_good: bool


def said(shown: dict[str, Any]) -> Said | None:
    """Of a rental as described; None without a stop, and with one that was asked for."""
    words = STOPS.get(shown["reason"])
    if words is None or shown["state"] not in (INTERRUPTING, STOPPING, STOPPED):
        return None
    text = words.before if shown["state"] == INTERRUPTING else words.after
    place = words.place.format(id=shown["id"])
    return Said(text, words.label, place, for_good=shown["reason"] == "end_date")
