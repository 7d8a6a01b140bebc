"""Ending an instance and giving its cards back.

A wish to end is recorded at once and closes the meter; the cards stay held until the pod's absence
was observed, rest as dirty for a moment, and are free again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from kernel import clock
from kernel.ids import new_id
from kernel.wake import wake_on_commit
from provisioner.contracts import Fault, InstanceState
from provisioner.instances.meter import Closing, confirm, open_of, proven_until
from provisioner.instances.move import move
from provisioner.instances.state import TERMINAL
from provisioner.instances.succeed import succeed
from provisioner.models import Hold, Instance, Slot
from provisioner.volumes.attach import detach

# The kubelet reports a pod gone a moment before the driver has let go of its devices.
DIRTY_FOR = timedelta(seconds=5)
# How long a slot that its owner was found to use is left alone before it is offered again.
OCCUPIED_FOR = timedelta(minutes=10)


def request_end(
    *,
    rental_ref: UUID,
    reason: str,
    fault: Fault,
    without_notice: bool = False,
    asked_at: datetime | None = None,
) -> UUID | None:
    """The rental's live instance shall end. In a transaction; repeating it changes nothing.
    without_notice: its owner owed one. asked_at: when it was asked for, if not now: the caller's
    transaction may have taken a while, and no second after that is charged.

    Seconds up to then are charged as far as they are proven: up to the last full list at once, up
    to now when the answer to the deletion shows that nothing had happened to the pod.
    """
    row = live(rental_ref)
    if row is None:
        return None
    if row.desired == Instance.Desired.END:
        Instance.objects.filter(pk=row.pk).update(successor_id=None)  # no restart any more
    else:
        told: dict[str, object] = {"without_notice": True} if without_notice else {}
        at = clock.now()
        closing = _closing(row, min(at, asked_at or at), renters_wish=True)
        end(row, reason=reason, fault=fault, at=at, closing=closing, evidence=told)
    return row.pk


def live(rental_ref: UUID) -> Instance | None:
    """The rental's instance that is not gone yet, locked; None without one."""
    rows = Instance.objects.select_for_update(no_key=True).filter(
        rental_ref=rental_ref, lapsed_at__isnull=True
    )
    # While we waited for the lock, a restart may have replaced the row by its successor, which
    # only a second look can see.
    return rows.exclude(state__in=TERMINAL).first() or rows.exclude(state__in=TERMINAL).first()


def request_restart(*, rental_ref: UUID, reason: str, fault: Fault) -> UUID | None:
    """End the live instance and let another take over its cards; the other's id.

    In a transaction. None when there is none that runs. The cards stay held all the time, so
    nobody can take them in between.
    """
    row = live(rental_ref)
    if row is None or row.desired == Instance.Desired.END:
        return None
    successor = new_id()
    end(
        row,
        reason=reason,
        fault=fault,
        at=clock.now(),
        renters_wish=True,
        successor_id=successor,
    )
    return successor


def end(
    row: Instance,
    *,
    reason: str,
    fault: Fault | None,
    at: datetime,
    claim: UUID | None = None,
    renters_wish: bool = False,
    closing: Closing | None = None,
    text: str = "",
    evidence: dict[str, object] | None = None,
    successor_id: UUID | None = None,
) -> bool:
    """Set the wish to end and move to STOPPING; False when the row changed meanwhile."""
    if closing is None:
        closing = _closing(row, at, renters_wish=renters_wish)
    moved = move(
        row,
        to=InstanceState.STOPPING,
        reason=reason,
        at=at,
        claim=claim,
        fault=fault,
        text=text,
        evidence=evidence,
        closing=closing,
        desired=Instance.Desired.END.value,
        generation=row.generation + 1,
        end_reason=reason,
        end_fault="" if fault is None else fault.value,
        end_requested_at=at,
        due_at=at,
        successor_id=successor_id,
    )
    if moved:
        wake_on_commit("provisioner.instances")
    return moved


def _closing(row: Instance, at: datetime, *, renters_wish: bool) -> Closing:
    interval = open_of(row.pk)
    if interval is None:
        return Closing(at=at, good_until=at)
    good = min(at, proven_until(interval))
    # A wish closes at its own time and waits for the deletion's answer; a failure that we found
    # closes where we still saw it well.
    if renters_wish:
        return Closing(at=at, good_until=good, final=False)
    return Closing(at=good, good_until=good)


def finish(row: Instance, *, at: datetime, claim: UUID | None, text: str = "") -> bool:
    """Absence was observed: the instance is gone. Its slots are dirty for a moment, or go on to
    the instance that restarts it."""
    fault = Fault(row.end_fault) if row.end_fault else None
    with transaction.atomic():
        holds = Hold.objects.filter(instance=row, to_ts__isnull=True)
        held = list(holds.values_list("slot_id", "from_ts"))
        at = max([at, *(start for _, start in held)])  # a clock set back must not end it earlier
        if not move(
            row,
            to=InstanceState.GONE,
            reason=row.end_reason,
            at=at,
            claim=claim,
            fault=fault,
            text=text,
            gone_at=at,
            due_at=None,
        ):
            return False
        confirm(row.pk, unchanged=False)
        holds.update(to_ts=at)
        # Read anew under the lock that the move took: the renter may have ended it meanwhile.
        row.refresh_from_db(fields=["successor_id"])
        if row.successor_id is not None:
            succeed(row, slots=[slot for slot, _ in held], at=at)
            return True
        detach(row.pk, at=at)
        Slot.objects.filter(pk__in=[slot for slot, _ in held], state=Slot.State.HELD).update(
            last_to=at, **_after_hold(row.end_reason, at)
        )
    return True


def _after_hold(reason: str, at: datetime) -> dict[str, Any]:
    if reason == "host_rejected":
        return {
            "state": Slot.State.CORDONED,
            "reason": "occupied_by_owner",
            "free_at": at + OCCUPIED_FOR,
        }
    return {"state": Slot.State.DIRTY, "reason": "", "free_at": at + DIRTY_FOR}


# Counters change under the share's lock, like everywhere. A share that a reservation holds just
# now is left for the next run.
_RETURNING = """
SELECT DISTINCT share_id FROM provisioner_slot WHERE free_at <= app_now() LIMIT 1000
"""
_LOCK = """
SELECT id FROM provisioner_nodeshare WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED
"""
_RECYCLE = """
WITH back AS (
  UPDATE provisioner_slot SET
    state = CASE WHEN retiring THEN 'cordoned' ELSE 'free' END,
    reason = CASE WHEN retiring THEN 'device_gone' ELSE '' END,
    free_at = NULL
  WHERE share_id = ANY(%(shares)s::uuid[]) AND free_at <= app_now()
    AND state IN ('dirty', 'cordoned')
  RETURNING share_id, state
), sums AS (
  SELECT share_id, count(*) FILTER (WHERE state = 'free') AS freed FROM back GROUP BY share_id
), counted AS (
  UPDATE provisioner_nodeshare s SET slots_free = s.slots_free + sums.freed FROM sums
  WHERE s.id = sums.share_id RETURNING s.group_id
), noted AS (
  INSERT INTO provisioner_groupchange (group_id) SELECT DISTINCT group_id FROM counted
)
SELECT count(*) FROM back
"""


def recycle() -> int:
    """Slots whose rest is over are free again; the number of them."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RETURNING)
        due = [row[0] for row in cursor.fetchall()]
        if not due:
            return 0
        cursor.execute(_LOCK, [due])
        locked = [row[0] for row in cursor.fetchall()]
        cursor.execute(_RECYCLE, {"shares": locked})
        return int(cursor.fetchone()[0])
