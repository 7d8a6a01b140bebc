"""What crosses the door about how placements on an owner's cards ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from provisioner.contracts import InstanceState


class Verdict(StrEnum):
    """What an end says about its host."""

    KEPT = "kept"  # it started, and ran until somebody else wanted it to end
    FAILED = "failed"  # it did not, and what was seen names the host
    UNCOUNTED = "uncounted"  # it says nothing: nobody knows why, or it was not the host's to keep


@dataclass(frozen=True)
class Cause:
    """Why placements ended so. ``code``: a reason of instances, or ``stopped_at_once``."""

    code: str
    text: str
    count: int


@dataclass(frozen=True)
class ReliabilityView:
    """Of one group of cards. value_bp: in ten-thousandths, rounded down; None below the least
    sample."""

    value_bp: int | None
    sample: int
    least_sample: int
    started: int  # of the sample: those that were ready once
    kept: int
    failures: tuple[Cause, ...]
    uncounted: tuple[Cause, ...]


@dataclass(frozen=True)
class Placement:
    """One that ended or goes on; nothing of who rented. ``verdict``: None while it goes on."""

    instance_id: UUID
    node: str
    gpus: int
    state: InstanceState
    placed_at: datetime
    ready_at: datetime | None
    ended_at: datetime | None
    cause: str | None
    text: str | None
    verdict: Verdict | None
