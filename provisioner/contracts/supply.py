"""What crosses the door about who is on the cards of an owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from provisioner.contracts import InstanceState


@dataclass(frozen=True)
class Occupant:
    """A machine that was not observed gone. ``ending``: its end was asked for."""

    instance_id: UUID
    rental_ref: UUID
    cluster_id: UUID
    node_id: UUID
    node: str
    accelerator: str
    gpus: int
    state: InstanceState
    ending: bool
    created_at: datetime
    ready_at: datetime | None
