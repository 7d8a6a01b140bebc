"""The one place that changes an instance's state: a guarded UPDATE plus its event, together.

The guard is what the caller decided on: the generation (the wish), the event counter (nobody moved
it since it was read) and, for the loop, the claim. Zero rows updated is a normal outcome: somebody
else was first, and the caller looks again. The meter's interval opens and closes in here, so it
cannot disagree with the state.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from kernel.text import clean
from kernel.wake import wake_on_commit
from provisioner.contracts import EventView, Fault, InstanceState
from provisioner.instances import meter
from provisioner.instances.meter import Closing
from provisioner.instances.reasons import REASONS, is_interruption
from provisioner.instances.state import may_move, metered
from provisioner.models import Instance, InstanceEvent


class IllegalMove(Exception):
    """The transition table does not know this move: a programming error."""


def move(
    row: Instance,
    *,
    to: InstanceState,
    reason: str,
    at: datetime,
    claim: UUID | None = None,
    fault: Fault | None = None,
    text: str = "",
    evidence: dict[str, Any] | None = None,
    closing: Closing | None = None,
    proof: dict[str, Any] | None = None,
    **changes: Any,
) -> bool:
    """Move ``row`` as it was read; False when it is not any more what was read.

    ``closing`` is needed to stop the meter, ``proof`` to start it; both together, from one metered
    state to another, cut the interval in two because what lay between is not proven. ``changes``
    are further columns. On success ``row`` shows the new values.
    """
    old = InstanceState(row.state)
    if not may_move(old, to):
        raise IllegalMove(f"{old} -> {to}")
    known = REASONS[reason]
    at_fault = known.fault if fault is None else fault
    was, will = metered(old, row.reason), metered(to, reason)
    closes = was and (not will or closing is not None)
    opens = will and (not was or closing is not None)
    if closes and closing is None:
        raise IllegalMove("leaving a metered state needs a closing")
    if opens and proof is None:
        raise IllegalMove("entering a metered state needs its proof")
    values = {
        **changes,
        "state": to.value,
        "reason": reason,
        "state_since": at,
        "event_seq": row.event_seq + 1,
        "attempts": 0,
    }
    with transaction.atomic():
        if not _guarded(row, claim).update(**values):
            return False
        InstanceEvent.objects.create(
            instance_id=row.pk,
            seq=row.event_seq + 1,
            at=at,
            state=to.value,
            reason=reason,
            fault=at_fault.value,
            text=clean(text or known.text, limit=500),
            evidence=evidence or {},
        )
        if closes and closing is not None:
            broken = is_interruption(reason, at_fault)
            meter.close_interval(row, closing=closing, reason=reason, interrupts=broken)
        if opens:
            uid = str(values.get("pod_uid") or row.pod_uid)
            meter.open_interval(row, at=at, pod_uid=uid, proof=proof or {})
        wake_on_commit("marketplace.follow")
    for name, value in values.items():
        setattr(row, name, value)
    return True


def note(
    row: Instance, *, claim: UUID | None = None, same_event: bool = False, **changes: Any
) -> bool:
    """Write down facts without moving; False when the row is not any more what was read.

    ``same_event``: nor if it was moved since, for facts that whoever moved it knew better.
    """
    if not _guarded(row, claim, same_event=same_event).update(**changes):
        return False
    for name, value in changes.items():
        setattr(row, name, value)
    return True


def _guarded(row: Instance, claim: UUID | None, *, same_event: bool = True) -> Any:
    guard: dict[str, Any] = {"pk": row.pk, "generation": row.generation}
    if same_event:
        guard["event_seq"] = row.event_seq
    if claim is not None:
        guard["claim_token"] = claim
    return Instance.objects.filter(**guard)


def event_view(event: InstanceEvent, rental_ref: UUID) -> EventView:
    return EventView(
        instance_id=event.instance_id,
        rental_ref=rental_ref,
        seq=event.seq,
        at=event.at,
        state=InstanceState(event.state),
        reason=event.reason,
        fault=Fault(event.fault),
        text=event.text,
        evidence=event.evidence,
    )
