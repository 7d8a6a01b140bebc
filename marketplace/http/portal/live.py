"""The rental page in sections, so that a look every second sends only what changed.

The page remembers a digest per section; a look answers with the sections whose digest differs, as
out-of-band pieces, and with nothing (204) when none does. Focus, selection and open menus in the
others stay untouched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any, Final
from urllib.parse import urlencode

from django.template.loader import render_to_string

from billing.contracts import ChargeView
from kernel.clock import now
from kernel.money import format_micro
from marketplace.catalog.registry import by_slug
from marketplace.http.portal import stops, words
from marketplace.http.portal.actions import ACTIONS
from marketplace.models import Rental, RentalEvent
from marketplace.rentals import ladder, read, way_in
from marketplace.rentals.present import describe, describe_charge, describe_event
from marketplace.rentals.state import INTERRUPTING, TERMINATED

# While it moves a second is what people notice; a running rental changes by the meter only.
_MOVING_S: Final = 1
_RESTING_S: Final = 3
_SHOWN: Final = 100  # micro-units: an estimate is shown to a hundredth of a cent
_PLACES: Final = (
    ("head", "top"),
    ("stats", "main"),
    ("timeline", "main"),
    ("charges", "main"),
    ("access", "side"),
    ("facts", "side"),
)
# What leads into the machine.
_WAYS_IN: Final = frozenset({"access"})


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


def look(rental: Rental, *, inside: bool = True) -> Look:
    """The whole page's sections for a rental that the caller may see. inside: with its ways in,
    which who only looks at the page is not shown."""
    shown = describe(rental)
    charges, events = read.charges(rental), list(read.events(rental).order_by("seq"))
    word = words.word("rental", rental.state)
    # After the end the last seconds are still to be charged, and the hold to be returned.
    settled = word.settled and rental.settled_at is not None
    kept_until = ladder.kept_until(rental)
    cards = by_slug()
    card = cards.get(rental.accelerator)
    named = {**shown, "accelerator_name": card.name if card else rental.accelerator}
    context = {
        "rental": named,
        "events": [_event(row) for row in map(describe_event, events)],
        "charges": [describe_charge(charge, rental.currency) for charge in charges],
        "given_back": read.incident_credits(rental),
        "running_up": running_up(rental, charges, events, now()) if metered(shown) else None,
        "moving": word.busy,
        "at_rest": word.settled,
        "ended": rental.state == TERMINATED,
        "is_closed": way_in.is_closed(),
        "settled": settled,
        "meter_on": metered(shown),
        "stop": stops.said(shown),
        "kept_until": kept_until,
        "offered": [
            {"name": name, "words": words_of}
            for name, words_of in ACTIONS.items()
            if name in shown["actions"]
        ],
    }
    sections = tuple(
        Section(name, place, render_to_string(f"portal/rental/{name}.html", context))
        for name, place in _PLACES
        if inside or name not in _WAYS_IN
    )
    # Of what the lack of money stopped, it is settled later until when it is kept.
    rests = settled and (kept_until is not None or not ladder.unpaid(rental))
    every = 0 if rests else _MOVING_S if word.busy else _RESTING_S
    return Look(named, sections, every)


def metered(shown: dict[str, Any]) -> bool:
    """Whether cards are charged as it stands now."""
    return any(item["kind"] == "gpu" for item in shown["continuing_charges"]["items"])


def _event(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "label": words.step(event["state"], event["reason"])}


def running_up(
    rental: Rental,
    charges: Sequence[ChargeView],
    events: Sequence[RentalEvent],
    present: datetime,
) -> str | None:
    """About what runs up since the last settled second: an estimate for the eye, never a charge.

    None before it ever ran; only asked while the meter is on. It counts from the latest of:
    proven ready, in this state, last charged second.
    """
    if rental.ready_at is None:
        return None
    since = max([rental.ready_at, *began(events), *(charge.to_at for charge in charges[-1:])])
    seconds = max(0, int((present - since).total_seconds()))
    return format_micro(rental.price_micro_h * seconds // 3600 // _SHOWN * _SHOWN)


def began(events: Sequence[RentalEvent]) -> list[datetime]:
    """Since when it is in its state; a notice is none, it runs on. One moment, or none."""
    steps = [event for event in events if event.state != INTERRUPTING]
    alike = takewhile(lambda event: event.state == steps[-1].state, reversed(steps))
    return [event.at for event in alike][-1:]
