"""The door to who is on the cards of an owner."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from provisioner.contracts.supply import Occupant
from provisioner.instances import occupants as _occupants


def occupants(*, cluster_ids: Collection[UUID], node_id: UUID | None = None) -> list[Occupant]:
    """Machines in these clusters, or on one node of them, that were not observed gone."""
    return _occupants.occupants(cluster_ids=cluster_ids, node_id=node_id)
