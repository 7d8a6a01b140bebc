"""The idle stop: rentals whose cards did nothing for as long as their people set are stopped.

Stopped, not ended: data is kept and the rental can be started again. Before that a notice tells
when; it is withdrawn as soon as one card works, the setting is changed, or the machine falls
silent. Only figures of the machine that runs now count, and only without a gap
(provisioner.instances.quiet says which): a reporter that died stops nothing.

A lock does not hold it off, as it holds off no other stop that nobody presses a button for: it
protects against people, and whoever set the idle stop can take it back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from django.db import transaction

from kernel.clock import now
from kernel.turns import each
from marketplace.models import Rental
from marketplace.rentals import notice
from marketplace.rentals.state import INTERRUPTING, RUNNING
from marketplace.rentals.stop import halt_for
from provisioner.contracts.reports import Quiet
from provisioner.facade import reports as provisioner

REASON: Final = "idle"
# Long enough to see the message and start something, which withdraws it; longer would be paid for
# by somebody who ordered not to pay for this.
LEAD: Final = timedelta(minutes=5)
_BATCH: Final = 500


class Step(Enum):
    """What becomes of one rental now."""

    NOTHING = "nothing"
    NOTICE = "notice"
    WITHDRAW = "withdraw"
    STOP = "stop"


def decide(
    *,
    state: str,
    reason: str,
    minutes: int | None,
    interrupt_at: datetime | None,
    quiet: Quiet | None,
) -> Step:
    """What to do with a rental whose cards are reported so. PURE.

    Time counts up to the last report: a stop needs one from after the announced moment.
    """
    over = is_over(minutes, quiet)
    if state == INTERRUPTING and reason == REASON:
        if quiet is None or not over:
            return Step.WITHDRAW
        return Step.STOP if interrupt_at is None or interrupt_at <= quiet.until else Step.NOTHING
    return Step.NOTICE if state == RUNNING and over else Step.NOTHING


def is_over(minutes: int | None, quiet: Quiet | None) -> bool:
    """Whether the cards were quiet for so long, seen from first to last report. PURE."""
    if minutes is None or quiet is None:
        return False
    return quiet.until - quiet.since >= timedelta(minutes=minutes)


def sweep(limit: int = _BATCH) -> int:
    """Give, withdraw and carry out what is due; how many rentals were stopped."""
    told = Rental.objects.filter(state=INTERRUPTING, reason=REASON)
    told_ids = list(told.order_by("interrupt_at").values_list("id", flat=True)[:limit])
    watched = dict(
        Rental.objects.filter(state=RUNNING, idle_stop_minutes__isnull=False).values_list(
            "id", "idle_stop_minutes"
        )
    )
    quiet = provisioner.quiet(rental_refs=list(watched)) if watched else {}
    due = [
        rental_id
        for rental_id, seen in sorted(quiet.items(), key=lambda item: item[1].since)
        if is_over(watched[rental_id], seen)
    ]
    return sum(each("idle", [*told_ids, *due[:limit]], _one))


def _one(rental_id: UUID) -> bool:
    """Decide again under the rental's lock: a card may work, or its people may have changed it."""
    with transaction.atomic(durable=True):
        rows = Rental.objects.select_for_update(of=("self",), skip_locked=True)
        rental = rows.filter(id=rental_id, state__in=[RUNNING, INTERRUPTING]).first()
        if rental is None:
            return False
        step = decide(
            state=rental.state,
            reason=rental.reason,
            minutes=rental.idle_stop_minutes,
            interrupt_at=rental.interrupt_at,
            quiet=provisioner.quiet(rental_refs=[rental.id]).get(rental.id),
        )
        if step is Step.NOTICE:
            notice.give(rental, REASON, at=now() + LEAD)
        elif step is Step.WITHDRAW:
            notice.withdraw(rental, REASON, text="It works again, or stopped telling whether.")
        elif step is Step.STOP:
            halt_for(rental, REASON)
        return step is Step.STOP
