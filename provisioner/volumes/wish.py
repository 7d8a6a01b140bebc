"""Wishes: make a volume, let it grow, delete it. Rows only; the loop brings clusters to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import public
from kernel.wake import wake_on_commit
from provisioner.contracts import ClusterState, NoStorage, StorageDomain, VolumeState
from provisioner.models import Cluster, Volume, VolumeAttachment, VolumeEvent
from provisioner.volumes import meter
from provisioner.volumes.move import move
from provisioner.volumes.namespaces import bind
from provisioner.volumes.state import ENDING, GROWABLE, REASONS

# 64 TiB: what the common file systems and storage classes take. More is a mistake in the unit.
MAX_GIB: Final = 64 * 1024


def create(
    *,
    volume_id: UUID,
    tenant_ref: UUID,
    cluster_id: UUID,
    size_gib: int,
    namespace_id: UUID | None = None,
) -> Volume:
    """Store a new volume as ``requested``, in the caller's transaction.

    ``namespace_id``: the tenant's namespace there, if the caller holds it. Raises InvalidRequest
    (size_gib), NotFound, NoStorage.
    """
    check_size(size_gib)
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        raise NotFound("cluster")
    check_cluster(cluster)
    if namespace_id is None:
        bound = bind(cluster=cluster_id, tenant=tenant_ref)
        if bound is None:
            raise NoStorage(
                "namespaces_exhausted", "The cluster's pool of namespaces has none left for you."
            )
        namespace_id = bound[0]
    at = clock.now()
    row = Volume.objects.create(
        id=volume_id,
        tenant_ref=tenant_ref,
        cluster=cluster,
        namespace_id=namespace_id,
        storage_class=cluster.storage_class,
        domain=cluster.storage_domain,
        reclaim=cluster.storage_reclaim,
        waits=cluster.storage_waits,
        expandable=cluster.storage_expands,
        size_gib=size_gib,
        state_since=at,
        created_at=at,
        pvc_name=pvc_name_of(volume_id),
        due_at=at,
    )
    VolumeEvent.objects.create(
        volume=row,
        seq=1,
        at=at,
        state=row.state,
        reason=row.reason,
        text=REASONS[row.reason],
        evidence={"size_gib": size_gib, "storage_class": row.storage_class},
    )
    wake_on_commit("provisioner.volumes")
    return row


def check_size(size_gib: int) -> None:
    if not 1 <= size_gib <= MAX_GIB:
        raise InvalidRequest({"size_gib": [f"a whole number of GiB from 1 to {MAX_GIB}"]})


def check_cluster(cluster: Cluster) -> None:
    """Raise NoStorage unless the cluster takes new volumes now."""
    if cluster.storage_domain == StorageDomain.NONE:
        raise NoStorage("no_storage", cluster.storage_reason or "The cluster offers no storage.")
    leaving = cluster.drain_requested_at is not None
    if cluster.state != ClusterState.READY or leaving or not cluster.preflight_passed:
        raise NoStorage(
            "cluster_not_ready", "The cluster does not answer now, or takes nothing new."
        )


def pvc_name_of(volume_id: UUID) -> str:
    """The claim's name: derived from the id, so a repeated create meets its own object."""
    return "gv-" + public("volume", volume_id).removeprefix("vol_")


def resize(*, volume_id: UUID, size_gib: int) -> Volume:
    """Ask for a larger size, in the caller's transaction; the present size changes nothing.

    Raises NotFound, InvalidRequest (size_gib), Refusal invalid_transition.
    """
    check_size(size_gib)
    row = locked([volume_id])[0]
    if size_gib == row.size_gib:
        return row
    if size_gib < row.size_gib:
        raise InvalidRequest(
            {"size_gib": [f"at least {row.size_gib}, its present size: volumes only grow"]}
        )
    if not row.expandable:
        raise InvalidRequest(
            {"size_gib": ["the storage where this volume is cannot enlarge volumes"]}
        )
    if row.state not in GROWABLE:
        why = (
            "It can grow once a machine has used it for the first time."
            if row.state in (VolumeState.REQUESTED, VolumeState.CREATING)
            else f"A volume that is {row.state} cannot grow now."
        )
        raise Refusal(
            "invalid_transition", f"{why} Nothing was changed.", state=row.state, actions=[]
        )
    at = clock.now()
    move(
        row,
        to=VolumeState.RESIZING,
        reason="resize_requested",
        at=at,
        evidence={"size_gib": size_gib, "before_gib": row.size_gib},
        size_gib=size_gib,
        generation=row.generation + 1,
        due_at=at,
    )
    wake_on_commit("provisioner.volumes")
    return row


def delete(*, volume_ids: Sequence[UUID], reason: str) -> None:
    """All of them shall go, in the caller's transaction; repeating it changes nothing.

    reason: delete_requested, or funds_grace_over; the receipt names it.

    Raises NotFound, Refusal volume_in_use; then none is deleted.
    """
    rows = locked(volume_ids)
    check_unused(rows)
    at = clock.now()
    meter.unwanted([row.pk for row in rows if row.state not in ENDING], at=at)
    for row in rows:
        if row.state in ENDING:
            continue
        move(
            row,
            to=VolumeState.DELETING,
            reason=reason,
            at=at,
            desired=Volume.Desired.DELETE.value,
            generation=row.generation + 1,
            delete_requested_at=at,
            due_at=at,
        )
    wake_on_commit("provisioner.volumes")


def locked(volume_ids: Sequence[UUID]) -> list[Volume]:
    """The rows under their locks, taken in primary-key order; raises NotFound."""
    rows = Volume.objects.select_for_update(no_key=True, of=("self",)).select_related("namespace")
    found = list(rows.filter(pk__in=volume_ids).order_by("pk"))
    if len(found) != len(set(volume_ids)):
        raise NotFound("volume")
    return found


def check_unused(rows: Sequence[Volume]) -> None:
    """Raise volume_in_use for the first of the locked rows that a live instance has."""
    taken = (
        VolumeAttachment.objects.filter(volume__in=rows, to_at__isnull=True)
        .select_related("instance")
        .order_by("volume_id")
        .first()
    )
    if taken is None:
        return
    rental = public("rental", taken.instance.rental_ref)
    raise Refusal(
        "volume_in_use",
        f"A machine of the rental {rental} has this volume. Nothing was changed. End or stop that "
        "rental first; the volume is free once the machine is gone.",
        volume=public("volume", taken.volume_id),
        rental=rental,
    )
