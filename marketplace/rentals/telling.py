"""Which moves of a rental people are mailed of: what nobody pressed a button for.

Told from where the event is appended (timeline.py), so the mail is ordered if and only if the move
happened. What the funds ladder says in words of its own is not said twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.utils.translation import gettext_noop as _

from kernel.clock import now
from kernel.text import clean
from kernel.turns import each
from marketplace.accounts import letters
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import Rental
from marketplace.rentals import state as states
from marketplace.rentals.reasons import FUNDS, HOST, NONE, PLATFORM, REASONS, RENTER

# A host whose network restarts is back before this; longer, and people look by themselves.
GRACE: Final = timedelta(minutes=10)
# Older ones were told, or are about to be given up.
_WINDOW: Final = timedelta(hours=6)
_BATCH: Final = 500

# Somebody asked for it, or ladder.py tells it with names and dates.
_TOLD: Final = frozenset(
    {"stopped_by_user", "terminated_by_user", "moved", "funds", "funds_grace_over"}
)
_EVENTS: Final = {
    states.FAILED: "rental.failed",
    states.STOPPING: "rental.stopped",
    states.TERMINATING: "rental.ended",
    states.TERMINATED: "rental.ended",
    states.REQUESTED: "rental.elsewhere",
    states.INTERRUPTING: "rental.notice",
}
_FAULTS: Final = {
    RENTER: _("Whose matter: yours."),
    HOST: _("Whose matter: the host's."),
    PLATFORM: _("Whose matter: ours."),
    FUNDS: _("Whose matter: the balance's or a budget's."),
    NONE: "",
}


def moved(rental: Rental, *, seq: int, at: datetime, text: Said) -> None:
    """Have its people mailed of its new state, where that is news; joins the transaction."""
    event = _EVENTS.get(rental.state)
    if event is None or (rental.reason in _TOLD and event != "rental.notice"):
        return
    if event == "rental.elsewhere" and rental.ready_at is None:
        return  # it never ran: on its way up it may go elsewhere as often as it has to
    # Ending and ended are one fact; so it is when it ends with nothing left.
    cause = "ended" if event == "rental.ended" else str(seq)
    _tell(rental, event, cause=cause, at=at, text=text)


def sweep(limit: int = _BATCH) -> int:
    """Tell of what cannot be reached for longer than a short trouble lasts; how many rentals."""
    present = now()
    rows = Rental.objects.filter(
        state=states.UNREACHABLE,
        state_since__lte=present - GRACE,
        state_since__gt=present - _WINDOW,
    )
    found = list(rows.order_by("state_since", "id")[:limit])
    each("telling", found, _tell_unreachable)
    return len(found)


def _tell_unreachable(rental: Rental) -> None:
    cause = f"unreachable:{rental.state_since.isoformat()}"
    text = REASONS[rental.reason].text if rental.reason in REASONS else ""
    _tell(rental, "rental.unreachable", cause=cause, at=rental.state_since, text=text)


def _tell(rental: Rental, event: str, *, cause: str, at: datetime, text: Said) -> None:
    row = REASONS.get(rental.reason)
    letters.tell(
        rental.organization_id,
        event,
        cause=f"{rental.public_id}:{cause}",
        facts={
            "name": rental.name or rental.public_id,
            "at": letters.moment(at),
            "text": phrase(clean(text)) if isinstance(text, str) else text,
            "fault": phrase(_FAULTS[row.fault] if row else ""),
            "path": f"/rentals/{rental.public_id}",
        },
        also=[rental.created_by_id],
    )
