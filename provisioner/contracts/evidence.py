"""What justifies a charged window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Evidence:
    """The observations behind a window, for people: opened by, closed by, positives between.

    Of a disk: no instance, no pod, and the proof is its size.
    """

    interval_id: UUID
    instance_id: UUID | None
    pod_uid: str
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None
    proof: dict[str, Any]  # devices, model, memory; of a disk gib
    observations: tuple[tuple[datetime, str], ...]  # (time, kind), positive ones of the cluster
    gaps: tuple[Gap, ...]  # stretches of the window that were looked at later than they should be
    unproven_seconds: int  # of the window, charged against the rules: always 0


@dataclass(frozen=True)
class Gap:
    """A stretch between two proofs. bridged: short enough to be charged, because both showed the
    same pod, container, restart count and Ready transition."""

    from_at: datetime
    to_at: datetime
    bridged: bool
