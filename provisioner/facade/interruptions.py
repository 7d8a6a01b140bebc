"""The provisioner's door for what faults broke off, and its credit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from provisioner.contracts.interruption import Interruption, ProvenSpan
from provisioner.instances import interruptions as _interruptions
from provisioner.instances import meter as _meter


def interruptions(*, limit: int) -> list[Interruption]:
    """What faults broke off and is not over for the books, oldest first."""
    return _interruptions.interruptions(limit=limit)


def interruptions_over(*, interval_ids: Sequence[UUID]) -> None:
    """In the transaction that gave the last of the credit: these do not appear again."""
    _interruptions.interruptions_over(interval_ids=interval_ids)


def proven_on(
    *, cluster_ids: Collection[UUID] | None, from_at: datetime, to_at: datetime
) -> list[ProvenSpan]:
    """What was proven in a time on these clusters, or on all (None); whole stretches, which may
    reach beyond it."""
    return _meter.proven_on(cluster_ids=cluster_ids, from_at=from_at, to_at=to_at)
