"""A rental's new state, told to the organization's webhooks in the transaction that moves it.

Pushed from where the event is appended, not pulled behind a position as instance events are: the
fact and its reader are in one area, so the direct call points down as the house wants it, the
event exists if and only if the move does, and no rental needs a second position to be kept.
"""

from __future__ import annotations

from marketplace.models import Rental
from marketplace.rentals.present import describe
from marketplace.webhooks.events import emit


def announce(rental: Rental, *, seq: int) -> None:
    """Emit ``rental.<state>`` for the rental's event number ``seq``; joins the transaction."""
    emit(
        organization=rental.organization_id,
        type=f"rental.{rental.state}",
        object=lambda: describe(rental),
        cause=f"{rental.public_id}:{seq}",
    )
