"""Giving volumes to an instance and taking them back, in the transactions of its two ends.

A reservation first locks the volumes it names, which also says where it may go, and only after
its cards are taken writes the attachments; the partial unique index allows one open attachment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import F

from kernel.errors import NotFound, Refusal
from kernel.wake import wake_on_commit
from provisioner.contracts import Candidate, StorageDomain, VolumeMount, VolumeState
from provisioner.models import Cluster, Volume, VolumeAttachment
from provisioner.volumes import wish
from provisioner.volumes.move import move
from provisioner.volumes.state import ATTACHABLE


def lock(mounts: Sequence[VolumeMount], *, tenant: UUID) -> list[Volume]:
    """The existing volumes of an order under their locks, each free to be attached.

    Raises NotFound (another tenant's included), Refusal volume_in_use, invalid_transition.
    """
    named = [mount.volume_id for mount in mounts if not mount.create_gib]
    if not named:
        return []
    rows = wish.locked(named)
    if any(row.tenant_ref != tenant for row in rows):
        raise NotFound("volume")
    wish.check_unused(rows)
    for row in rows:
        if row.state not in ATTACHABLE:
            raise Refusal(
                "invalid_transition",
                f"A volume of the order is {row.state} and cannot be attached. Nothing was "
                "rented. Choose another volume.",
                state=row.state,
                actions=[],
            )
    return rows


def reachable(
    candidates: Iterable[Candidate], rows: Sequence[Volume], mounts: Sequence[VolumeMount]
) -> list[Candidate]:
    """The candidates from which all locked volumes can be mounted and new ones be made."""
    left = [item for item in candidates if all(_reaches(row, item) for row in rows)]
    if not any(mount.create_gib for mount in mounts):
        return left
    able = set(
        Cluster.objects.filter(pk__in={item.cluster_id for item in left})
        .exclude(storage_domain=StorageDomain.NONE)
        .values_list("pk", flat=True)
    )
    return [item for item in left if item.cluster_id in able]


def _reaches(row: Volume, candidate: Candidate) -> bool:
    if row.cluster_id != candidate.cluster_id:
        return False
    bound_elsewhere = row.node_id is not None and row.node_id != candidate.node_id
    return row.domain != StorageDomain.NODE or not bound_elsewhere


def attach(
    rows: Sequence[Volume],
    mounts: Sequence[VolumeMount],
    *,
    instance_id: UUID,
    tenant: UUID,
    cluster_id: UUID,
    namespace_id: UUID,
    at: datetime,
) -> None:
    """Give the locked volumes, and those that the order makes, to the reserved instance."""
    made = [
        wish.create(
            volume_id=mount.volume_id,
            tenant_ref=tenant,
            cluster_id=cluster_id,
            size_gib=mount.create_gib,
            namespace_id=namespace_id,
        )
        for mount in mounts
        if mount.create_gib
    ]
    for row in (*rows, *made):
        VolumeAttachment.objects.create(volume=row, instance_id=instance_id, from_at=at)
        if row.state == VolumeState.AVAILABLE:
            move(
                row,
                to=VolumeState.ATTACHED,
                reason="attached",
                at=at,
                evidence={"instance": str(instance_id)},
            )
    _look_again([*rows, *made], at)


def detach(instance_id: UUID, *, at: datetime) -> None:
    """The instance's absence was observed: its volumes are free. In that transaction."""
    held = VolumeAttachment.objects.filter(instance_id=instance_id, to_at__isnull=True)
    ids = list(held.values_list("volume_id", flat=True))
    if not ids:
        return
    rows = wish.locked(ids)
    for row in rows:
        if row.state == VolumeState.ATTACHED:
            move(
                row,
                to=VolumeState.AVAILABLE,
                reason="detached",
                at=at,
                evidence={"instance": str(instance_id)},
            )
    held.update(to_at=at)
    _look_again(rows, at)


def hand_over(instance_id: UUID, *, to: UUID, at: datetime) -> None:
    """A restart: what the one that is gone had is the other's, never free in between."""
    held = VolumeAttachment.objects.filter(instance_id=instance_id, to_at__isnull=True)
    ids = list(held.values_list("volume_id", flat=True))
    if not ids:
        return
    rows = wish.locked(ids)
    held.update(to_at=at)
    VolumeAttachment.objects.bulk_create(
        VolumeAttachment(volume=row, instance_id=to, from_at=at) for row in rows
    )
    _look_again(rows, at)


def _look_again(rows: Sequence[Volume], at: datetime) -> None:
    """Where it binds, and when, is looked for anew; a look under way is not stored any more."""
    if rows:
        ids = [row.pk for row in rows]
        Volume.objects.filter(pk__in=ids).update(due_at=at, generation=F("generation") + 1)
        wake_on_commit("provisioner.volumes")
