"""Bringing each volume to what its row wants: claim, act on the cluster, write back guarded.

Takes no arguments and looks at the world each time, so it may run twice, late or in several
workers. Acting is in volume_steps.py, deciding in volume_decide.py; what is written back is here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction

from kernel import clock
from kernel.errors import PermanentError, TemporaryError, VendorError
from kernel.retry import backoff
from provisioner.contracts import StorageDomain, VolumeState
from provisioner.kube.api import ClusterApi
from provisioner.kube.claims import ClaimFacts
from provisioner.kube.connections import connect
from provisioner.kube.errors import code_of, is_unhealthy
from provisioner.models import Cluster, Node, Volume, VolumeAttachment
from provisioner.reconcile import health, volume_decide
from provisioner.reconcile.pool import PER_CLUSTER, Calls
from provisioner.reconcile.volume_claim import claim_volumes, release_volume
from provisioner.reconcile.volume_decide import Go, Known
from provisioner.reconcile.volume_steps import Result, Step, next_step
from provisioner.volumes import meter, receipt
from provisioner.volumes.move import move

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

# As for instances: a worker that is asked to stop is not kept longer than that.
RUN_SECONDS = 10.0
# Looks at a claim that is being bound, enlarged or deleted: quick at first, then at ease.
POLL_FIRST, POLL_LONGEST = 1.0, 15.0
# Nothing is expected to change; a claim that somebody removed is noticed within this time.
STEADY = timedelta(minutes=5)
RETRY_FIRST, RETRY_LONGEST = 1.0, 60.0
_REFUSED = ("quota", "not_admitted", "invalid", "not_found")


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Work until nothing is due; the number of steps taken."""
    ends, taken = time.monotonic() + seconds, 0
    with Calls[Step, Result]() as calls:
        while True:
            began = _start(calls, connect) if time.monotonic() < ends else 0
            taken += began
            for step, result in calls.collect(timeout=0.1):
                _finish(step, result)
            if calls.idle() and not began:
                return taken


def _start(calls: Calls[Step, Result], connect: Connect) -> int:
    limit = min(calls.free(), PER_CLUSTER)
    if limit < 1:
        return 0
    rows = claim_volumes(limit=limit, busy=calls.busy())
    for row in rows:
        _begin(row, calls, connect)
    return len(rows)


def _begin(row: Volume, calls: Calls[Step, Result], connect: Connect) -> None:
    token, at = row.claim_token, clock.now()
    if token is None:
        raise ValueError("only claimed volumes are worked at")
    step = next_step(row, token)
    if step.kind == "create" and not _announce_create(row, token, at):
        release_volume(row, token=token, due_at=at)
        return
    try:
        api = connect(row.cluster)
    except PermanentError as error:
        _failed(step, error, at)
        return
    calls.submit(step, row.cluster_id, lambda: step.call(api))


def _announce_create(row: Volume, token: UUID, at: datetime) -> bool:
    """Write down, before it is sent, until when a create of ours may take effect."""
    if row.state == VolumeState.REQUESTED:
        return move(
            row,
            to=VolumeState.CREATING,
            reason="creating",
            at=at,
            claim=token,
            create_until=row.claim_until,
        )
    mine = Volume.objects.filter(pk=row.pk, claim_token=token, generation=row.generation)
    return bool(mine.update(create_until=row.claim_until))


def _finish(step: Step, result: Result | VendorError) -> None:
    """Write back what came of a step. The row may belong to somebody else by now."""
    at = clock.now()
    if isinstance(result, VendorError):
        _failed(step, result, at)
        return
    health.answered(step.row.cluster_id, at=at)
    if step.kind == "delete":
        _deleted(step, result, at)
    elif result.foreign:
        # Our name, somebody else's object: only the owner can have made it, and must remove it.
        _refuse(step, "an object with the claim's name exists already", at)
    else:
        _seen(step, result.claim, at)


def _seen(step: Step, found: ClaimFacts | None, at: datetime) -> None:
    """Apply a look under the row's lock, so that whether it is attached cannot change meanwhile."""
    due: datetime | None = at
    with transaction.atomic():
        row = Volume.objects.select_for_update(no_key=True).get(pk=step.row.pk)
        if found is not None and row.pvc_uid is None:
            # The first sight: whoever saw it first wrote it, whatever is wanted meanwhile.
            row.pvc_uid = found.uid
            row.save(update_fields=["pvc_uid"])
        if found is not None and found.phase == "Bound":
            row.seen_at = step.sent_at
            row.save(update_fields=["seen_at"])
        if row.claim_token == step.token and row.generation == step.row.generation:
            due = _apply(row, found, at=at, claim=step.token)
    # For a new owner, or a new wish, this changes nothing: they look again by themselves.
    release_volume(step.row, token=step.token, due_at=due)


def _apply(row: Volume, found: ClaimFacts | None, *, at: datetime, claim: UUID) -> datetime | None:
    """Store what was seen of the locked row's claim; when to look again."""
    held = _attachment(row)
    known = _known(row, attached=held is not None and held.to_at is None)
    if found is None:
        decision = volume_decide.absent(known, at)
    else:
        decision = volume_decide.present(known, found, at)
        _learn_node(row, found, held)
    if decision is not None:
        _carry_out(row, decision, found, at=at, claim=claim)
    return _next_look(row, known, at)


def _attachment(row: Volume) -> VolumeAttachment | None:
    """The open attachment, else the last."""
    rows = VolumeAttachment.objects.filter(volume=row).select_related("instance__share")
    return rows.order_by("-from_at").first()


def _known(row: Volume, *, attached: bool) -> Known:
    return Known(
        state=VolumeState(row.state),
        reason=row.reason,
        size_gib=row.size_gib,
        bound_gib=row.bound_gib,
        waits=row.waits,
        attached=attached,
    )


def _carry_out(
    row: Volume, decision: Go, found: ClaimFacts | None, *, at: datetime, claim: UUID
) -> None:
    evidence = {"claim_uid": row.pvc_uid}
    if found is not None:
        evidence |= {"phase": found.phase, "node": found.node}
    grew = row.state == VolumeState.RESIZING and decision.to != VolumeState.LOST
    moved = move(
        row,
        to=decision.to,
        reason=decision.reason,
        at=at,
        claim=claim,
        evidence=evidence,
        **decision.changes,
    )
    if moved and (grew or "bound_at" in decision.changes):
        meter.reached(row, at=at)
    elif moved and decision.to == VolumeState.LOST:
        meter.lost(row, at=at)


def _learn_node(row: Volume, found: ClaimFacts, held: VolumeAttachment | None) -> None:
    """Where the data of a node-local volume lies, once it is bound.

    The scheduler's own note says it where a class provisions; for a class that waits for its first
    use and binds what is there, it is the node of the machine that used it. A class that binds at
    once tells nobody, so the node is known when a machine was proven to run with it.
    """
    if row.domain != StorageDomain.NODE or row.node_id is not None or found.phase != "Bound":
        return
    named = Node.objects.filter(cluster_id=row.cluster_id, name=found.node).first()
    if named is not None:
        row.node = named
    elif held is not None and (row.waits or held.instance.ready_at is not None):
        row.node_id = held.instance.share.node_id
    else:
        return
    row.save(update_fields=["node"])


def _next_look(row: Volume, known: Known, at: datetime) -> datetime | None:
    if row.state == VolumeState.LOST:
        return None
    unknown_node = row.domain == StorageDomain.NODE and row.node_id is None and known.attached
    binding = row.state == VolumeState.CREATING and (known.attached or not row.waits)
    if binding or unknown_node or row.state == VolumeState.RESIZING:
        age = (at - row.state_since).total_seconds()
        return at + timedelta(seconds=min(POLL_LONGEST, max(POLL_FIRST, age / 4)))
    return at + STEADY


def _deleted(step: Step, result: Result, at: datetime) -> None:
    row = step.row
    until = row.create_until
    if result.absence is None:
        waited = (at - (row.delete_requested_at or at)).total_seconds() / 4
        pause = min(POLL_LONGEST, max(POLL_FIRST, waited))
        if result.claim is not None and row.pvc_uid is None:
            Volume.objects.filter(pk=row.pk, pvc_uid=None).update(pvc_uid=result.claim.uid)
        release_volume(row, token=step.token, due_at=at + timedelta(seconds=pause))
    elif row.pvc_uid is None and until is not None and step.sent_at <= until:
        # A create that was sent may still take effect: look again after its time.
        release_volume(row, token=step.token, due_at=until)
    else:
        done = receipt.finish(row, result.absence, at=at, claim=step.token)
        release_volume(row, token=step.token, due_at=None if done else at)


def _failed(step: Step, error: VendorError, at: datetime) -> None:
    """Nothing usable came back. What may have happened is found out by the next attempt."""
    row, code = step.row, code_of(error)
    log.info("volume_step_failed", volume=str(row.pk), step=step.kind, code=code)
    pause = timedelta(
        seconds=backoff(
            row.attempts,
            base=RETRY_FIRST,
            cap=RETRY_LONGEST,
            fraction=random.random(),  # noqa: S311  (spreads retries, guards nothing)
        )
    )
    if is_unhealthy(error):
        pause = max(pause, health.failed(row.cluster_id, error, at=at))
    else:
        health.answered(row.cluster_id, at=at)
        if step.kind == "create" and code in _REFUSED:
            _refuse(step, str(error), at)
            return
        if step.kind == "grow" and code in _REFUSED:
            _keep_size(step, str(error), at)
            return
    if isinstance(error, TemporaryError):
        pause = max(pause, timedelta(seconds=error.delay))
    release_volume(row, token=step.token, due_at=at + pause, attempts=row.attempts + 1)


def _refuse(step: Step, why: str, at: datetime) -> None:
    """A quota may be raised, a policy mended: tried again, and said meanwhile."""
    row = step.row
    if row.reason != "refused":
        move(
            row,
            to=VolumeState.CREATING,
            reason="refused",
            at=at,
            claim=step.token,
            evidence={"answer": why[:300]},
        )
    due = at + timedelta(seconds=RETRY_LONGEST)
    release_volume(row, token=step.token, due_at=due, attempts=row.attempts + 1)


def _keep_size(step: Step, why: str, at: datetime) -> None:
    """The wish for a larger size is dropped; what is there goes on."""
    with transaction.atomic():
        row = Volume.objects.select_for_update(no_key=True).get(pk=step.row.pk)
        if row.claim_token == step.token and row.generation == step.row.generation:
            held = _attachment(row)
            attached = held is not None and held.to_at is None
            move(
                row,
                to=VolumeState.ATTACHED if attached else VolumeState.AVAILABLE,
                reason="resize_refused",
                at=at,
                claim=step.token,
                evidence={"answer": why[:300], "size_gib": row.size_gib},
                size_gib=row.bound_gib or row.size_gib,
                generation=row.generation + 1,
            )
            meter.refused(row)
    release_volume(row, token=step.token, due_at=at + STEADY)
