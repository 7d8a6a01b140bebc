"""Bringing each instance to what its row wants: claim, act on the cluster, write back guarded.

Takes no arguments and looks at the world each time, so it may run twice, late or in several
workers. Everything it does to a cluster can be repeated: names derive from the instance's id.
Acting is in steps.py; what is written back when an answer comes, or does not, is here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from kernel import clock
from kernel.errors import PermanentError, TemporaryError, VendorError
from kernel.retry import backoff
from kernel.sealed import CannotOpen
from provisioner.contracts import InstanceState
from provisioner.instances import lease, logs, meter, release
from provisioner.instances.move import move, note
from provisioner.instances.reasons import LOOK_FIRST
from provisioner.instances.state import COMING_UP, TROUBLED, metered
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.kube.errors import code_of, is_unhealthy
from provisioner.models import Cluster, Instance
from provisioner.reconcile import apply, brake, decide, health
from provisioner.reconcile.claim import (
    INSTANCE_CLAIM,
    claim_instances,
    extend_instances,
    release_instance,
)
from provisioner.reconcile.decide import End, Stay
from provisioner.reconcile.pool import PER_CLUSTER, Calls
from provisioner.reconcile.steps import Result, Step, next_step

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

# A run stops claiming after this and leaves the rest to the next: a worker that is asked to stop
# should not be kept longer than a task of a few seconds.
RUN_SECONDS = 10.0
# Looks at a pod on its way up while no watch tells: quick at first, then at ease.
POLL_FIRST, POLL_LONGEST = 1.0, 15.0
# Between looks at a pod that was told to go: a quarter of the time it has taken so far, because
# programs may use their whole grace. The watch usually tells before.
POLL_GONE_FIRST, POLL_GONE_LONGEST = 0.5, 10.0
RETRY_FIRST, RETRY_LONGEST = 0.5, 30.0
# How often the claims of steps that are under way are extended: four times before one ends.
KEEP = INSTANCE_CLAIM.total_seconds() / 4


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Work until nothing is due; the number of steps taken."""
    kept = time.monotonic()
    ends, taken = kept + seconds, 0
    with Calls[Step, Result]() as calls:
        while True:
            began = _start(calls, connect) if time.monotonic() < ends else 0
            taken += began
            # While some calls hang, new work of other clusters is looked for ten times a second.
            for step, result in calls.collect(timeout=0.1):
                _finish(step, result)
            if time.monotonic() - kept > KEEP:
                kept = time.monotonic()
                extend_instances([step.token for step in calls.jobs()])
            if calls.idle() and not began:
                return taken


def _start(calls: Calls[Step, Result], connect: Connect) -> int:
    limit = min(calls.free(), PER_CLUSTER)
    if limit < 1:
        return 0
    rows = claim_instances(limit=limit, busy=calls.busy())
    for row in rows:
        _begin(row, calls, connect)
    return len(rows)


def _begin(row: Instance, calls: Calls[Step, Result], connect: Connect) -> None:
    token = row.claim_token
    if token is None or row.claim_until is None:
        raise ValueError("only claimed instances are worked at")
    at = clock.now()
    if row.desired == Instance.Desired.RUN:
        known = apply.known(row)
        late = decide.overdue(known, at) if row.pod_uid is None else _given_up(known, at)
        if isinstance(late, End):
            apply.carry_out(row, late, at=at, blind=True, claim=token)
            release_instance(row, token=token, due_at=apply.after_end(row, at))
            return
        if row.pod_uid is None and brake.waits_for_restore(row):
            release_instance(row, token=token, due_at=at + brake.LOOK_AGAIN)
            return
        if row.pod_uid is None and not _announce_create(row, token, at):
            release_instance(row, token=token, due_at=at)
            return
    try:
        step = next_step(row, token)
    except (CannotOpen, KeyError) as error:
        # Another sealing key, or a card that left the registry: no attempt can help.
        decision = End("config_error", evidence={"problem": type(error).__name__})
        apply.carry_out(row, decision, at=at, blind=True, claim=token)
        release_instance(row, token=token, due_at=at + timedelta(seconds=RETRY_LONGEST))
        return
    try:
        api = connect(row.cluster)
    except PermanentError as error:
        _failed(step, error, at)
        return
    calls.submit(step, row.cluster_id, lambda: step.call(api))


def _given_up(known: decide.Known, at: datetime) -> decide.Decision:
    late = decide.given_up(known, at)
    # Only asked when something is about to be given up.
    return Stay() if isinstance(late, End) and health.we_are_blind(at=at) else late


def _announce_create(row: Instance, token: UUID, at: datetime) -> bool:
    """Write down, before it is sent, until when a create of ours may take effect, and until when
    the lease made with it may hold."""
    told: dict[str, Any] = {
        "create_until": row.claim_until,
        "lease_held_until": lease.first_until(row.lease_until, at),
        "lease_due_at": at + lease.LEAST_PAUSE,
    }
    if row.state == InstanceState.RESERVED:
        return move(
            row,
            to=InstanceState.CREATING,
            reason="creating",
            at=at,
            claim=token,
            **told,
        )
    return note(row, claim=token, **told)


def _finish(step: Step, result: Result | VendorError) -> None:
    """Write back what came of a step. The row may belong to somebody else by now."""
    at = clock.now()
    if isinstance(result, VendorError):
        _failed(step, result, at)
        return
    health.answered(step.row.cluster_id, at=at)
    handlers = {"create": _created, "notice": _told, "look": _looked, "delete": _deleted}
    handlers[step.kind](step, result, at)


def _created(step: Step, result: Result, at: datetime) -> None:
    row = step.row
    if result.foreign:
        # Our name, somebody else's object: only a provider can have made it.
        _give_up(step, at, "config_error", "An object with the machine's name exists already.")
        return
    if result.pod is not None:
        apply.observed(row, result.pod, at=at, blind=True, claim=step.token)
    release_instance(row, token=step.token, due_at=_next_look(row, at))


def _told(step: Step, result: Result, at: datetime) -> None:
    row = step.row
    note(row, claim=step.token, notice_sent_at=row.notice_at)
    release_instance(row, token=step.token, due_at=_next_look(row, at))


def _looked(step: Step, result: Result, at: datetime) -> None:
    row = step.row
    if result.pod is None:
        apply.carry_out(row, decide.absent(apply.known(row)), at=at, blind=True, claim=step.token)
    else:
        apply.observed(row, result.pod, at=at, blind=True, claim=step.token)
    release_instance(row, token=step.token, due_at=_next_look(row, at))


def _next_look(row: Instance, at: datetime) -> datetime | None:
    """When to look again unless a watch or a list tells before; None once it serves."""
    if row.desired == Instance.Desired.END or row.notice_at != row.notice_sent_at:
        return at
    state = InstanceState(row.state)
    if row.reason in LOOK_FIRST:
        return at + brake.LOOK_AGAIN
    if state in TROUBLED and not metered(state, row.reason):
        return max(row.state_since + apply.grace(row), at + timedelta(seconds=RETRY_LONGEST))
    if state not in COMING_UP:
        return None
    age = (at - row.created_at).total_seconds()
    return at + timedelta(seconds=min(POLL_LONGEST, max(POLL_FIRST, age / 4)))


def _deleted(step: Step, result: Result, at: datetime) -> None:
    row = step.row
    if result.log:
        logs.keep(row.pk, result.log, at=at)
    if result.pod is not None:
        # The answer to the deletion shows the pod as it was: that proves the last seconds.
        with transaction.atomic():
            meter.confirm(
                row.pk,
                unchanged=decide.unchanged(row.seen, result.pod),
                evidence={"ready": result.pod.ready, **result.pod.identity()},
            )
        if row.pod_uid is None:
            note(row, claim=step.token, pod_uid=result.pod.uid)
        waited = (at - (row.end_requested_at or at)).total_seconds() / 4
        pause = min(POLL_GONE_LONGEST, max(POLL_GONE_FIRST, waited))
        release_instance(row, token=step.token, due_at=at + timedelta(seconds=pause))
        return
    # Absent. A create that was sent may still take effect: look again after its time.
    if row.pod_uid is None and row.create_until is not None and step.sent_at <= row.create_until:
        release_instance(row, token=step.token, due_at=row.create_until)
        return
    if lease.in_flight(row, at):
        # A renewal that was sent may make the lease anew: delete it once more when it has ended.
        release_instance(row, token=step.token, due_at=at + timedelta(seconds=POLL_FIRST))
        return
    release.finish(row, at=at, claim=step.token)
    release_instance(row, token=step.token, due_at=None if row.state == "gone" else at)


def _failed(step: Step, error: VendorError, at: datetime) -> None:
    """Nothing usable came back. What may have happened is found out by the next attempt."""
    row = step.row
    code = code_of(error)
    log.info("instance_step_failed", instance=str(row.pk), step=step.kind, code=code)
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
        if step.kind == "create" and code in ("invalid", "not_admitted", "not_found"):
            _give_up(step, at, "config_error", str(error))
            return
        if step.kind == "create" and code == "quota":
            _give_up(step, at, "host_rejected", str(error))
            return
    if isinstance(error, TemporaryError):
        pause = max(pause, timedelta(seconds=error.delay))
    release_instance(row, token=step.token, due_at=at + pause, attempts=row.attempts + 1)


def _give_up(step: Step, at: datetime, reason: str, why: str) -> None:
    decision = End(reason, evidence={"answer": why[:300]})
    apply.carry_out(step.row, decision, at=at, blind=True, claim=step.token)
    release_instance(step.row, token=step.token, due_at=apply.after_end(step.row, at))
