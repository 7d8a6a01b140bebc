"""Who is on an owner's cards now. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from provisioner.contracts import InstanceState
from provisioner.contracts.supply import Occupant
from provisioner.models import Instance


def occupants(*, cluster_ids: Collection[UUID], node_id: UUID | None = None) -> list[Occupant]:
    """Machines in these clusters, or on one node of them, oldest first."""
    if not cluster_ids:
        return []
    rows = Instance.objects.filter(cluster__in=cluster_ids).exclude(state=InstanceState.GONE)
    if node_id is not None:
        rows = rows.filter(share__node=node_id)
    return [
        Occupant(
            instance_id=row.id,
            rental_ref=row.rental_ref,
            cluster_id=row.cluster_id,
            node_id=row.share.node_id,
            node=row.share.node.name,
            accelerator=row.accelerator,
            gpus=row.gpus,
            state=InstanceState(row.state),
            ending=row.desired == Instance.Desired.END,
            created_at=row.created_at,
            ready_at=row.ready_at,
        )
        for row in rows.select_related("share__node").order_by("id")
    ]
