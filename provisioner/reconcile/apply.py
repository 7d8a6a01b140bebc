"""Carrying out a decision about one instance: the only bridge from what was seen to the row."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from kernel.wake import wake_on_commit
from provisioner.contracts import DEFAULT_GRACE, InstanceState
from provisioner.instances import entry, lease, meter, quarantine, release, shut
from provisioner.instances.meter import Closing
from provisioner.instances.move import move, note
from provisioner.instances.reasons import NOT_SEEN
from provisioner.instances.state import COMING_UP, TROUBLED, metered
from provisioner.inventory import homogeneity
from provisioner.inventory.accelerators import by_slug
from provisioner.kube.pods import PodFacts
from provisioner.models import Instance
from provisioner.reconcile import brake, decide
from provisioner.reconcile.decide import Decision, End, Go, Known, Stay

log = structlog.get_logger(__name__)

# What a row needs to be decided on; one query for a whole cluster.
RELATED = ("share__node", "share__group", "namespace", "way_in")


def known(row: Instance) -> Known:
    return Known(
        state=InstanceState(row.state),
        reason=row.reason,
        state_since=row.state_since,
        gpus=row.gpus,
        model=by_slug()[row.accelerator][1],
        pod_uid=row.pod_uid,
        seen=row.seen,
        short=row.share.short,
        node_ready=row.share.node.ready,
        grace=grace(row),
        closed=entry.is_closed(row) if row.state in COMING_UP else shut.is_shut(row),
    )


def grace(row: Instance) -> timedelta:
    """How long trouble of the host or ours may last before the instance is given up."""
    return timedelta(seconds=int(row.order.get("grace_seconds", DEFAULT_GRACE)))


def observed(
    row: Instance, pod: PodFacts, *, at: datetime, blind: bool, claim: UUID | None = None
) -> bool:
    """Apply a sighting of the instance's own pod; True if the row moved.

    ``blind``: nobody watched between the last full list and now, so a failure found now closes the
    meter where it was last proven; on an unbroken watch it closes at its arrival.
    """
    if row.pod_uid is None and not _adopt(row, pod, at=at):
        return False
    if decide.is_older(row.seen, pod):
        return False
    moved = carry_out(row, decide.present(known(row), pod, at), at=at, blind=blind, claim=claim)
    if moved and row.state == InstanceState.DEGRADED and pod.ready and pod.main.running:
        # A container that was restarted between two looks ends one proven stretch and begins
        # another; waiting for the next look would only lose seconds.
        carry_out(row, decide.present(known(row), pod, at), at=at, blind=False, claim=claim)
    return moved


def carry_out(
    row: Instance, decision: Decision, *, at: datetime, blind: bool, claim: UUID | None = None
) -> bool:
    """Do what was decided; False when nothing moved or somebody else was first."""
    if isinstance(decision, Stay):
        if decision.seen is not None:
            note(row, claim=claim, same_event=True, seen=decision.seen)
        return False
    if isinstance(decision, End):
        explained = _explained(row, decision, at)
        return _end(row, explained, at=at, blind=blind, claim=claim)
    if decision.to in TROUBLED and not metered(decision.to, decision.reason) and brake.holds(row):
        # One incident of ours, not the fault of each host.
        return _instead(row, decision, at=at, blind=blind, claim=claim)
    return _go(row, decision, at=at, blind=blind, claim=claim)


def _end(row: Instance, decision: End, *, at: datetime, blind: bool, claim: UUID | None) -> bool:
    """End it unless the mass brake holds; judged and written under one lock."""
    with transaction.atomic():
        if brake.may_end(row, reason=decision.reason, fault=decision.fault, at=at):
            ended = release.end(
                row,
                reason=decision.reason,
                fault=decision.fault,
                at=at,
                claim=claim,
                closing=_closing(row, at=at, blind=blind),
                text=decision.text,
                evidence=decision.evidence,
            )
            if ended and decision.reason == quarantine.REASON:
                quarantine.found_wrong(
                    row,
                    text=decision.text,
                    evidence=decision.evidence,
                    ours=by_slug()[row.accelerator][0].tool == "runtime",
                    at=at,
                )
            return ended
        return _instead(row, decision, at=at, blind=blind, claim=claim)


def _instead(
    row: Instance, wanted: End | Go, *, at: datetime, blind: bool, claim: UUID | None
) -> bool:
    """What the brake leaves of a decision: a move aside, or nothing."""
    decision = decide.held(known(row), wanted)
    if isinstance(decision, Go):
        return _go(row, decision, at=at, blind=blind, claim=claim)
    if isinstance(decision, Stay) and decision.seen is not None:
        note(row, claim=claim, same_event=True, seen=decision.seen)
    return False


def after_end(row: Instance, at: datetime) -> datetime:
    """When to work again at an instance that was to end: at once, or later if the brake holds."""
    return at if row.desired == Instance.Desired.END else at + brake.LOOK_AGAIN


def _go(row: Instance, decision: Go, *, at: datetime, blind: bool, claim: UUID | None) -> bool:
    was = metered(InstanceState(row.state), row.reason)
    will = metered(decision.to, decision.reason)
    # From one metered state to another the meter goes on, unless nobody watched meanwhile and what
    # is seen now does not show that it went on.
    gap = blind and not decision.bridged
    closing = _closing(row, at=at, blind=blind) if was and (gap or not will) else None
    changes: dict[str, Any] = {"seen": decision.seen}
    if will:
        changes["due_at"] = None  # from here on observations alone move it
        if row.ready_at is None:
            changes["ready_at"] = at
    elif decision.reason == NOT_SEEN:
        changes["due_at"] = at
        wake_on_commit("provisioner.instances")
    elif decision.to in TROUBLED:
        changes["due_at"] = at + grace(row)
    return move(
        row,
        to=decision.to,
        reason=decision.reason,
        at=at,
        claim=claim,
        text=decision.text,
        evidence=decision.evidence,
        closing=closing,
        proof=decision.evidence | homogeneity.as_proof(row.share.group) if will else None,
        **changes,
    )


def _explained(row: Instance, decision: End, at: datetime) -> End:
    """A pod that its lease ended was not lost by its host: we could not renew it, and why not
    nobody can tell from here."""
    if decision.reason != "host_lost" or not lease.ran_out(row, at):
        return decision
    return End(
        "lease_over",
        evidence={**decision.evidence, "lease_held_until": str(row.lease_held_until)},
    )


def _closing(row: Instance, *, at: datetime, blind: bool) -> Closing:
    if blind and metered(InstanceState(row.state), row.reason):
        return meter.closing_at_last_proof(row)
    return Closing(at=at, good_until=at)


def _adopt(row: Instance, pod: PodFacts, *, at: datetime) -> bool:
    """The first sight of the pod: its UID is the instance's identity from now on, whatever is
    wanted meanwhile. Whoever saw it first wrote it; False if that was another pod, or if its
    instance is over: then it is an orphan."""
    unseen = Instance.objects.filter(pk=row.pk, pod_uid__isnull=True)
    unseen.exclude(state=InstanceState.GONE).update(pod_uid=pod.uid, pod_created_at=at)
    row.refresh_from_db(
        fields=[
            "pod_uid",
            "pod_created_at",
            "state",
            "state_since",
            "reason",
            "seen",
            "event_seq",
            "generation",
            "desired",
            "ready_at",
        ]
    )
    return row.pod_uid == pod.uid and row.desired == Instance.Desired.RUN
