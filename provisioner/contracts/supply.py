"""What crosses the door about who is on the cards of an owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from provisioner.contracts import InstanceState


class Egress(StrEnum):
    """What a machine reaches outside its cluster. The way in to it is apart."""

    INTERNET = "internet"  # all but private networks and outgoing mail
    WEB = "web"  # HTTP and HTTPS of the same
    NONE = "none"  # nothing: not even names resolve, and no figures of its cards reach us


# A cap below this is a mistake: an image's own start needs more.
LEAST_MBPS, MOST_MBPS = 10, 1_000_000


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
