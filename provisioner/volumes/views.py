"""Volumes and receipts as plain values for other areas. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from provisioner.contracts import ReceiptView, StorageDomain, VolumeState, VolumeView
from provisioner.models import Volume, VolumeAttachment, VolumeReceipt
from provisioner.volumes.state import REASONS


def volumes(*, ids: Sequence[UUID]) -> list[VolumeView]:
    """The volumes with these ids, oldest first; unknown ids are left out."""
    rows = list(Volume.objects.filter(pk__in=ids).select_related("node").order_by("pk"))
    held = {
        item.volume_id: item
        for item in VolumeAttachment.objects.filter(
            volume__in=rows, to_at__isnull=True
        ).select_related("instance")
    }
    return [_view(row, held.get(row.pk)) for row in rows]


def _view(row: Volume, held: VolumeAttachment | None) -> VolumeView:
    return VolumeView(
        id=row.pk,
        tenant_ref=row.tenant_ref,
        cluster_id=row.cluster_id,
        size_gib=row.size_gib,
        bound_gib=row.bound_gib,
        domain=StorageDomain(row.domain),
        storage_class=row.storage_class,
        expandable=row.expandable,
        node_id=row.node_id,
        node=row.node.name if row.node else None,
        state=VolumeState(row.state),
        reason=row.reason,
        text=REASONS.get(row.reason, ""),
        instance_id=held.instance_id if held else None,
        rental_ref=held.instance.rental_ref if held else None,
        created_at=row.created_at,
        bound_at=row.bound_at,
        delete_requested_at=row.delete_requested_at,
        deleted_at=row.deleted_at,
        lost_at=row.lost_at,
    )


def receipt(*, volume_id: UUID) -> ReceiptView | None:
    """The receipt of a deleted volume, None before its absence was observed."""
    row = VolumeReceipt.objects.filter(pk=volume_id).first()
    if row is None:
        return None
    return ReceiptView(
        volume_id=row.volume_id,
        at=row.at,
        content=row.content,
        sha256=row.sha256,
        signature=row.signature,
        public_key=row.public_key,
    )
