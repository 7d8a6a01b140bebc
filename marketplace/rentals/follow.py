"""What instances did becomes what the renter sees.

Events are pulled per instance behind its reader's position and applied with that position in one
transaction, under the rental's lock: after a crash at any point the same events are read again,
and none is applied twice. The end of an instance is applied only after its seconds are charged, so
a rental that says terminated shows its final cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q

from billing import facade as billing
from kernel.clock import AppNow
from kernel.ids import public
from kernel.money import format_micro
from kernel.turns import Turn, each, turns
from kernel.wake import wake_on_commit
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import Rental
from marketplace.rentals import state as states
from marketplace.rentals.charge import charge, settle
from marketplace.rentals.reasons import OTHER_HOST, REASONS, actor_of, sentence
from marketplace.rentals.stop import end_for
from marketplace.rentals.timeline import IllegalMove, move, note
from marketplace.volumes.later import tie as tied
from provisioner import facade as provisioner
from provisioner.contracts import EventView, Fault, InstanceState

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


# Of an interruptible rental that ended without its notice, the last hour is free.
FREE_WITHOUT_NOTICE: Final = timedelta(hours=1)


def follow(limit: int = _LIMIT) -> int:
    """Apply what is new, end what is past its date, settle what has ended; events applied."""
    applied = 0
    with turns("follow") as turn:
        while True:
            behind = provisioner.behind(limit=limit)
            count = _follow(behind, turn)
            applied += count
            if len(behind) < limit or not count:
                break
        with turn(expire):
            expire()
        with turn(settle):
            settle()
    return applied


def _follow(behind: Sequence[tuple[UUID, UUID]], turn: Turn) -> int:
    if behind and provisioner.any_gone(instance_ids=[instance_id for instance_id, _ in behind]):
        with turn(charge):  # an end whose seconds are not charged waits, and nothing else does
            charge()
    applied = 0
    for instance_id, rental_ref in behind:
        with turn((instance_id, rental_ref)):
            applied += _follow_one(instance_id, rental_ref)
    return applied


def _is_over(event: EventView) -> bool:
    """Nothing of the instance runs any more: its absence was observed, or its lease ran out while
    its cluster cannot be asked."""
    lapsed = event.state == InstanceState.STOPPING and event.reason == "lapsed"
    return event.state == InstanceState.GONE or lapsed


def _waits_for_charge(rental: Rental, event: EventView) -> bool:
    """Whether the rental ends with this and its seconds are not all charged. An earlier machine's
    end shows nothing, and while the present one runs there are always seconds left."""
    if event.instance_id != rental.instance_ref or not _is_over(event):
        return False
    return not provisioner.is_settled(rental_ref=rental.id)


def _follow_one(instance_id: UUID, rental_ref: UUID) -> int:
    """One instance's new events in one transaction; how many were applied."""
    with transaction.atomic(durable=True):
        rental = Rental.objects.select_for_update().filter(id=rental_ref).first()
        if rental is None:
            # A reservation commits with its rental: after a restore this is for people to judge.
            log.error("rental_unknown", rental=public("rental", rental_ref))
            return 0
        applied = seen = 0
        for event in provisioner.take_events(instance_id=instance_id):
            if _waits_for_charge(rental, event):
                break  # gone since the last charging run: the next pass charges, then shows it
            _apply(rental, event)
            applied, seen = applied + 1, event.seq
        if applied:
            provisioner.ack_events(instance_id=instance_id, seq=seen)
        return applied


def _apply(rental: Rental, event: EventView) -> None:
    if event.instance_id != rental.instance_ref:
        return  # an earlier machine: what becomes of it does not move the rental any more
    if _is_over(event):
        _finish(rental, event)
    elif event.state == InstanceState.RESERVED or rental.desired_state != _RUNNING:
        # The first is told by whoever placed it. After a request to stop or end, what still
        # arrives happened before it and changes nothing any more.
        return
    elif event.state == InstanceState.STOPPING:
        _give_up(rental, event)
    else:
        if event.state == InstanceState.READY:
            _came_up(rental, event)
        _meter(rental, event)
        target = _SHOWN_AS[event.state]
        if rental.state == states.INTERRUPTING and target in (states.DEGRADED, states.UNREACHABLE):
            _overlay(rental)
        if (rental.state, target) not in _NOT_SHOWN:
            _show(rental, target, event)


def _overlay(rental: Rental) -> None:
    """Trouble hides a notice. That somebody needs its cards holds on, or a renter could break a
    program to keep them; the other notices are given again when it runs."""
    if rental.reason != "outbid":
        rental.interrupt_at = None


def _came_up(rental: Rental, event: EventView) -> None:
    """It ran: what failed before does not count against the next trouble."""
    rental.ready_at = rental.ready_at or event.at
    rental.attempts, rental.tried_nodes = 0, None
    rental.save(update_fields=["ready_at", "attempts", "tried_nodes"])


def _meter(rental: Rental, event: EventView) -> None:
    """Tell billing whether seconds count from now on, so that the money's end is watched."""
    renters = event.state == InstanceState.DEGRADED and event.fault == Fault.RENTER
    if event.state == InstanceState.READY or renters:
        billing.meter_started(rental_ref=rental.id, at=event.at)
    else:
        billing.meter_stopped(rental_ref=rental.id)


def _give_up(rental: Rental, event: EventView) -> None:
    """The platform ends the instance by itself: its cards are held until absence is observed."""
    billing.meter_stopped(rental_ref=rental.id)
    if rental.state == states.UNREACHABLE and not rental.failover:
        # Nobody can observe its absence while its cluster is dark; its people must know now.
        rental.leaving = True
        _show(rental, states.FAILED, event)
        return
    served = rental.state in (states.RUNNING, states.INTERRUPTING)
    _show(rental, states.DEGRADED if served else rental.state, event)


def _finish(rental: Rental, event: EventView) -> None:
    """Absence was observed: what comes next depends on what is wanted."""
    billing.meter_stopped(rental_ref=rental.id)
    if rental.state == states.TERMINATED:
        return
    if rental.interruptible:
        _give_back(rental, event)
    absent = event.state == InstanceState.GONE
    tie = tied(rental.id, absent=absent)
    # A machine whose lease ran out unseen still has its volumes: nothing may start with them.
    rental.leaving = bool(tie) and not absent
    if rental.state in (states.STOPPED, states.FAILED):
        rental.save(update_fields=["leaving"])
    elif rental.state == states.TERMINATING:
        rental.leaving = False
        rental.ended_at = event.at
        _show(rental, states.TERMINATED, event, reason=rental.reason, text=_NOTHING_LEFT)
    elif rental.state == states.STOPPING:
        _show(rental, states.STOPPED, event, reason=rental.reason, text=_KEPT)
    elif not _may_go_elsewhere(rental, event):
        _show(rental, states.FAILED, event)
    elif tie:
        text = [phrase(sentence(event.reason, event.text)), phrase(tie)]
        _show(rental, states.FAILED, event, text=text)
    else:
        _go_elsewhere(rental, event)


def _give_back(rental: Rental, event: EventView) -> None:
    """The price of interruptible use buys a notice. What ended without one, or before the announced
    time, by the host's fault or ours, costs nothing for its last hour: up to the last second that
    was proven, which is charged by now."""
    if event.fault not in (Fault.HOST, Fault.PLATFORM, Fault.UNKNOWN):
        return
    proven = provisioner.ready_intervals(rental_ref=rental.id)
    ends = [one.proven_to for one in proven if one.instance_id == event.instance_id]
    if not ends:
        return
    until = max(ends)
    given = billing.credit(
        rental_ref=rental.id,
        from_at=until - FREE_WITHOUT_NOTICE,
        to_at=until,
        by_provider=event.fault == Fault.HOST,
    )
    if given:
        text = f"It ended without its notice: {format_micro(given)} {rental.currency} of the last "
        text += "hour were given back."
        actor = actor_of(event.reason, event.fault)
        note(rental, at=event.at, reason=event.reason, actor=actor, text=text)


def _may_go_elsewhere(rental: Rental, event: EventView) -> bool:
    """On its way up: the host failed it, and others were not tried yet. Later: if allowed."""
    row = REASONS.get(event.reason)
    if row is None or row.retry != OTHER_HOST or event.fault == Fault.RENTER:
        return False
    if rental.state in states.COMING_UP:
        return rental.attempts < MAX_ATTEMPTS
    return rental.failover


def _go_elsewhere(rental: Rental, event: EventView) -> None:
    view = provisioner.instance(rental_ref=rental.id)
    if view is not None:
        rental.tried_nodes = [*(rental.tried_nodes or ()), view.node_id]
    rental.interrupt_at = None
    text = [phrase(sentence(event.reason, event.text)), phrase("Another host is tried.")]
    _show(rental, states.REQUESTED, event, text=text)
    wake_on_commit("marketplace.place")


_RUNNING: Final = Rental.Desired.RUNNING.value
# Hosts that may fail one rental on its way up before it says so. A third failure in a row is more
# likely the order's than the hosts'.
MAX_ATTEMPTS: Final = 3
# A restart shows starting until its image is pulled; a notice stays until its cause is gone.
_NOT_SHOWN: Final = frozenset(
    {(states.STARTING, states.PROVISIONING), (states.INTERRUPTING, states.RUNNING)}
)
_NOTHING_LEFT: Final = (
    "The machine is gone from its cluster; nothing is left and nothing more is charged."
)
_KEPT: Final = "The machine is gone from its cluster and its cards are given back."


def _show(
    rental: Rental, target: str, event: EventView, *, reason: str = "", text: Said = ""
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
    """End rentals whose end date has come; how many. After the money ended it is ladder.py's."""
    over = Q(expires_at__lte=AppNow()) & ~Q(state__in=(*states.ENDING, states.FAILED))
    due = Rental.objects.filter(over, ended_at=None).order_by("expires_at")
    ids = list(due.values_list("id", flat=True)[:limit])
    return sum(each("expire", ids, lambda rental_id: _end_one(rental_id, over)))


def _end_one(rental_id: UUID, over: Q) -> bool:
    with transaction.atomic(durable=True):
        rows = Rental.objects.select_for_update(skip_locked=True)
        rental = rows.filter(over, id=rental_id, ended_at=None).first()
        if rental is None:
            return False
        end_for(rental, "end_date")
        return True
