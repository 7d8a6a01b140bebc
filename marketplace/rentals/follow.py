"""What instances did becomes what the renter sees.

Events are pulled per instance behind its reader's position and applied with that position in one
transaction, under the rental's lock: after a crash at any point the same events are read again,
and none is applied twice. The end of an instance is applied only after its seconds are charged, so
a rental that says terminated shows its final cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction

from billing import facade as billing
from kernel.clock import AppNow
from kernel.ids import public
from marketplace.models import Rental
from marketplace.rentals import state as states
from marketplace.rentals.charge import charge, settle
from marketplace.rentals.reasons import actor_of, sentence
from marketplace.rentals.stop import end_for
from marketplace.rentals.timeline import IllegalMove, move
from provisioner import facade as provisioner
from provisioner.contracts import EventView, InstanceState

log = structlog.get_logger(__name__)

# Rows per pass: a pass stays well under a second, and the next follows at once when it was full.
_LIMIT: Final = 500

_SHOWN_AS: Final[dict[InstanceState, str]] = {
    InstanceState.RESERVED: states.PROVISIONING,
    InstanceState.CREATING: states.PROVISIONING,
    InstanceState.PULLING: states.PULLING,
    InstanceState.STARTING: states.STARTING,
    InstanceState.READY: states.RUNNING,
    InstanceState.DEGRADED: states.DEGRADED,
    InstanceState.UNREACHABLE: states.UNREACHABLE,
}


def follow(limit: int = _LIMIT) -> int:
    """Apply what is new, end what is past its date, settle what has ended; events applied."""
    applied = 0
    while True:
        behind = provisioner.behind(limit=limit)
        count = _follow(behind)
        applied += count
        if len(behind) < limit or not count:
            break
    expire()
    settle()
    return applied


def _follow(behind: Sequence[tuple[UUID, UUID]]) -> int:
    if any(_is_gone(rental_ref) for _, rental_ref in behind):
        charge()
    applied, failures = 0, []
    for instance_id, rental_ref in behind:
        try:
            applied += _follow_one(instance_id, rental_ref)
        except Exception as error:  # one bad row must not stop everybody's timeline
            log.error("follow_failed", rental=public("rental", rental_ref), exc_info=error)
            failures.append(error)
    if failures:
        raise failures[0]
    return applied


def _is_gone(rental_ref: UUID) -> bool:
    view = provisioner.instance(rental_ref=rental_ref)
    return view is not None and view.state == InstanceState.GONE


def _follow_one(instance_id: UUID, rental_ref: UUID) -> int:
    """One instance's new events in one transaction; how many were applied."""
    with transaction.atomic(durable=True):
        rental = Rental.objects.select_for_update().filter(id=rental_ref).first()
        if rental is None:
            # A reservation commits with its rental: after a restore this is for people to judge.
            log.error("rental_unknown", rental=public("rental", rental_ref))
            return 0
        applied = 0
        for event in provisioner.take_events(instance_id=instance_id):
            gone = event.state == InstanceState.GONE
            if gone and not provisioner.is_settled(rental_ref=rental_ref):
                break  # gone since the last charging run: the next pass charges, then shows it
            _apply(rental, event)
            provisioner.ack_events(instance_id=instance_id, seq=event.seq)
            applied += 1
        return applied


def _apply(rental: Rental, event: EventView) -> None:
    if event.state == InstanceState.READY and rental.ready_at is None:
        rental.ready_at = event.at
        rental.save(update_fields=["ready_at"])
    if event.state == InstanceState.GONE:
        _finish(rental, event)
    elif event.state == InstanceState.RESERVED or rental.state in states.ENDING:
        # The first is the rental's own first event. After a request to end, what still arrives
        # happened before it and changes nothing any more.
        return
    elif event.state == InstanceState.STOPPING:
        _give_up(rental, event)
    else:
        _meter(rental, event)
        _show(rental, _SHOWN_AS[event.state], event)


def _meter(rental: Rental, event: EventView) -> None:
    """Tell billing whether seconds count from now on, so that the money's end is watched."""
    if event.state == InstanceState.READY:
        billing.meter_started(rental_ref=rental.id, at=event.at)
    else:
        billing.meter_stopped(rental_ref=rental.id)


def _give_up(rental: Rental, event: EventView) -> None:
    """The platform ends the instance by itself: its cards are held until absence is observed."""
    billing.meter_stopped(rental_ref=rental.id)
    target = states.DEGRADED if rental.state == states.RUNNING else rental.state
    _show(rental, target, event)


def _finish(rental: Rental, event: EventView) -> None:
    billing.meter_stopped(rental_ref=rental.id)
    if rental.state == states.TERMINATED:
        return
    rental.ended_at = event.at
    if rental.state == states.TERMINATING:
        _show(rental, states.TERMINATED, event, reason=rental.reason, text=_NOTHING_LEFT)
    else:
        rental.ended_at = None
        _show(rental, states.FAILED, event)


_NOTHING_LEFT: Final = (
    "The machine is gone from its cluster; nothing is left and nothing more is charged."
)


def _show(
    rental: Rental, target: str, event: EventView, *, reason: str = "", text: str = ""
) -> None:
    code = reason or event.reason
    evidence: dict[str, Any] = {**event.evidence, "instance_seq": event.seq}
    try:
        move(
            rental,
            target,
            at=event.at,
            reason=code,
            actor=actor_of(code, event.fault),
            text=text or sentence(code, event.text),
            evidence=evidence,
        )
    except IllegalMove as error:
        # The two tables disagree. The fact is kept out of the timeline and in the log; stopping
        # here would freeze the rental, and its money is decided by intervals, not by this state.
        log.error("illegal_move", rental=rental.public_id, move=str(error), seq=event.seq)


def expire(limit: int = _LIMIT) -> int:
    """End rentals whose end date has come; how many."""
    due = (
        Rental.objects.filter(expires_at__lte=AppNow(), ended_at=None)
        .exclude(state__in=(*states.ENDING, states.FAILED))
        .order_by("expires_at")
        .values_list("id", flat=True)
    )
    return sum(_end_one(rental_id, "end_date") for rental_id in list(due[:limit]))


def _end_one(rental_id: UUID, reason: str) -> bool:
    with transaction.atomic(durable=True):
        rental = (
            Rental.objects.select_for_update(skip_locked=True)
            .filter(id=rental_id, expires_at__lte=AppNow())
            .exclude(state__in=(*states.ENDING, states.FAILED))
            .first()
        )
        if rental is None:
            return False
        end_for(rental, reason)
        return True
