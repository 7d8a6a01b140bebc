"""The door to clusters that an agent leads to."""

from __future__ import annotations

from uuid import UUID

from provisioner.clusters import register, views
from provisioner.contracts import ClusterView


def register_agent_cluster(
    *, cluster_id: UUID, name: str, provider_ref: UUID, datacenter_ref: UUID
) -> ClusterView:
    """In a transaction. Stores a cluster as ``connecting``, until its agent has dialled in."""
    register.register_agent_cluster(
        cluster_id=cluster_id,
        name=name,
        provider_ref=provider_ref,
        datacenter_ref=datacenter_ref,
    )
    return views.clusters(ids=[cluster_id])[0]
