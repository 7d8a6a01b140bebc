"""Carrying out a decision about one instance: the only bridge from what was seen to the row."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from provisioner.contracts import Fault, InstanceState
from provisioner.instances import lease, meter, release
from provisioner.instances.meter import Closing
from provisioner.instances.move import move, note
from provisioner.instances.state import METERED
from provisioner.inventory.accelerators import by_slug
from provisioner.kube.pods import PodFacts
from provisioner.models import Instance
from provisioner.reconcile import decide
from provisioner.reconcile.decide import Decision, End, Go, Known, Stay

log = structlog.get_logger(__name__)

# What a row needs to be decided on; one query for a whole cluster.
RELATED = ("share__node", "share__group", "namespace")


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
    )


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
    if moved and row.state == InstanceState.DEGRADED and pod.ready:
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
            note(row, claim=claim, seen=decision.seen)
        return False
    closing = _closing(row, at=at, blind=blind)
    if isinstance(decision, End):
        decision = _explained(row, decision, at)
        return release.end(
            row,
            reason=decision.reason,
            fault=decision.fault,
            at=at,
            claim=claim,
            closing=closing,
            text=decision.text,
            evidence=decision.evidence,
        )
    return _go(row, decision, at=at, closing=closing, claim=claim)


def _go(row: Instance, decision: Go, *, at: datetime, closing: Closing, claim: UUID | None) -> bool:
    ready = decision.to in METERED
    changes: dict[str, Any] = {"seen": decision.seen}
    if ready:
        changes["due_at"] = None  # from here on observations alone move it
        if row.ready_at is None:
            changes["ready_at"] = at
    return move(
        row,
        to=decision.to,
        reason=decision.reason,
        at=at,
        claim=claim,
        text=decision.text,
        evidence=decision.evidence,
        closing=closing,
        proof=decision.evidence if ready else None,
        **changes,
    )


def _explained(row: Instance, decision: End, at: datetime) -> End:
    """A pod that its lease ended was not lost by its host: we could not renew it, and why not
    nobody can tell from here."""
    if decision.reason != "host_lost" or not lease.ran_out(row, at):
        return decision
    return End(
        "contract_end",
        fault=Fault.UNKNOWN,
        evidence={**decision.evidence, "lease_held_until": str(row.lease_held_until)},
        text="Its lease in the cluster ran out while it could not be renewed.",
    )


def _closing(row: Instance, *, at: datetime, blind: bool) -> Closing:
    if blind and row.state in METERED:
        return meter.closing_at_last_proof(row)
    return Closing(at=at, good_until=at)


def _adopt(row: Instance, pod: PodFacts, *, at: datetime) -> bool:
    """The first sight of the pod: its UID is the instance's identity from now on, whatever is
    wanted meanwhile. Whoever saw it first wrote it; False if that was another pod."""
    Instance.objects.filter(pk=row.pk, pod_uid__isnull=True).update(
        pod_uid=pod.uid, pod_created_at=at
    )
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
