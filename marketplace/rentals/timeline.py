"""One way to move a rental: state, reason, version and the event that says so, together.

The caller holds the rental's row lock; events are numbered under it, so they have no gaps.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kernel.text import clean
from marketplace.accounts.phrases import Said, english
from marketplace.models import Rental, RentalEvent
from marketplace.rentals import telling
from marketplace.rentals.announce import announce
from marketplace.rentals.state import ENDING, may_move
from provisioner.facade import access


class IllegalMove(Exception):
    """The table has no such move; the caller decides whether that is a mistake or a late fact."""


def move(
    rental: Rental,
    target: str,
    *,
    at: datetime,
    reason: str,
    actor: str,
    text: Said,
    evidence: dict[str, Any] | None = None,
) -> None:
    """Move the locked rental to ``target`` (or note a new reason in the same state) and save it.

    text: stored in English, mailed in each reader's language. Raises IllegalMove. Saves every
    changed field of ``rental``.
    """
    if target != rental.state:
        if not may_move(rental.state, target):
            raise IllegalMove(f"{rental.state} -> {target}")
        rental.state = target
        rental.state_since = at
        if target in ENDING:
            access.shut(rental_ref=rental.pk)
    rental.reason = reason
    rental.version += 1
    rental.save()
    note(rental, at=at, reason=reason, actor=actor, text=text, evidence=evidence)


def note(
    rental: Rental,
    *,
    at: datetime,
    reason: str,
    actor: str,
    text: Said,
    evidence: dict[str, Any] | None = None,
) -> RentalEvent:
    """Append an event in the rental's present state; webhooks and people hear of it when that is
    new."""
    earlier = RentalEvent.objects.filter(rental=rental).order_by("-seq")
    seq, state = earlier.values_list("seq", "state").first() or (0, "")
    event = RentalEvent.objects.create(
        rental=rental,
        seq=seq + 1,
        at=at,
        state=rental.state,
        reason=reason,
        actor=actor,
        text=clean(english(text)),
        evidence=evidence or {},
    )
    if state != rental.state:
        announce(rental, seq=event.seq)
        telling.moved(rental, seq=event.seq, at=at, text=text)
    return event
