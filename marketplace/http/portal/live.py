"""The rental page in sections, so that a look every second sends only what changed.

The page remembers a digest per section; a look answers with the sections whose digest differs, as
out-of-band pieces, and with nothing (204) when none does. Focus, selection and open menus in the
others stay untouched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.template.loader import render_to_string

from billing.contracts import ChargeView
from kernel.clock import now
from kernel.money import format_micro
from marketplace.catalog.registry import by_slug
from marketplace.http.portal import words
from marketplace.http.portal.actions import ACTIONS
from marketplace.models import Rental
from marketplace.rentals import metrics, read
from marketplace.rentals.present import describe, describe_charge, describe_event

# While it moves a second is what people notice; a running rental changes by the meter only.
_MOVING_S: Final = 1
_RESTING_S: Final = 3
_SHOWN: Final = 100  # micro-units: an estimate is shown to a hundredth of a cent
_PLACES: Final = (
    ("head", "top"),
    ("stats", "main"),
    ("usage", "main"),
    ("timeline", "main"),
    ("charges", "main"),
    ("access", "side"),
    ("facts", "side"),
)


@dataclass(frozen=True)
class Section:
    """A piece of the rental page. html: rendered by a template, so escaped there."""

    name: str
    place: str
    html: str

    @property
    def digest(self) -> str:
        return hashlib.blake2s(self.html.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Look:
    """The rental as it stands. every: seconds until the next look, 0 when none is needed."""

    rental: dict[str, Any]
    sections: tuple[Section, ...]
    every: int

    @property
    def seen(self) -> str:
        """What the page will say it has seen, as a query string."""
        digests = {section.name: section.digest for section in self.sections}
        return urlencode({**digests, "every": self.every})

    def changed(self, seen: Mapping[str, str]) -> list[Section]:
        return [section for section in self.sections if seen.get(section.name) != section.digest]


def look(rental: Rental) -> Look:
    """The whole page's sections for a rental that the caller may see."""
    shown = describe(rental)
    charges = read.charges(rental)
    word = words.word("rental", rental.state)
    # After the end the last seconds are still to be charged, and the hold to be returned.
    settled = word.settled and rental.settled_at is not None
    cards = by_slug()
    card = cards.get(rental.accelerator)
    named = {**shown, "accelerator_name": card.name if card else rental.accelerator}
    context = {
        "rental": named,
        "events": [_event(row) for row in map(describe_event, read.events(rental).order_by("seq"))],
        "charges": [describe_charge(charge, rental.currency) for charge in charges],
        "usage": [] if word.settled else metrics.at_a_glance(rental),
        "running_up": running_up(rental, charges, now()) if metered(shown) else None,
        "moving": word.busy,
        "ended": word.settled,
        "settled": settled,
        "meter_on": metered(shown),
        "offered": [
            {"name": name, "words": words_of}
            for name, words_of in ACTIONS.items()
            if name in shown["actions"]
        ],
    }
    sections = tuple(
        Section(name, place, render_to_string(f"portal/rental/{name}.html", context))
        for name, place in _PLACES
    )
    every = 0 if settled else _MOVING_S if word.busy else _RESTING_S
    return Look(named, sections, every)


def metered(shown: dict[str, Any]) -> bool:
    """Whether cards are charged as it stands now."""
    return any(item["kind"] == "gpu" for item in shown["continuing_charges"]["items"])


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "label": words.step(event["state"], event["reason"])}


def running_up(rental: Rental, charges: list[ChargeView], present: datetime) -> str | None:
    """About what runs up since the last settled second: an estimate for the eye, never a charge.

    None before it ever ran; only asked while the meter is on. It counts from the latest of:
    proven ready, in this state, last charged second.
    """
    if rental.ready_at is None:
        return None
    since = max([rental.ready_at, rental.state_since, *(charge.to_at for charge in charges[-1:])])
    seconds = max(0, int((present - since).total_seconds()))
    return format_micro(rental.price_micro_h * seconds // 3600 // _SHOWN * _SHOWN)
