"""The provisioner's door for what faults broke off, and its credit."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from provisioner.contracts.interruption import Interruption
from provisioner.instances import interruptions as _interruptions


def interruptions(*, limit: int) -> list[Interruption]:
    """What faults broke off and is not over for the books, oldest first."""
    return _interruptions.interruptions(limit=limit)


def interruptions_over(*, interval_ids: Sequence[UUID]) -> None:
    """In the transaction that gave the last of the credit: these do not appear again."""
    _interruptions.interruptions_over(interval_ids=interval_ids)
