"""The door to how placements on an owner's cards ended."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from provisioner.contracts.reliability import Placement, ReliabilityView
from provisioner.inventory import record as _record


def reliabilities(*, group_ids: Collection[UUID]) -> dict[UUID, ReliabilityView]:
    """Groups' figures over the last thirty days, a few minutes old at most."""
    return _record.reliabilities(group_ids=group_ids)


def reliability(*, group_id: UUID) -> ReliabilityView:
    """Those of one group."""
    return reliabilities(group_ids=[group_id])[group_id]


def placements(*, group_id: UUID, limit: int) -> list[Placement]:
    """The last placements on a group, newest first."""
    return _record.placements(group_id=group_id, limit=limit)
