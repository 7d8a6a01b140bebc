"""What crosses the door about interruptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from provisioner.contracts import Fault


@dataclass(frozen=True)
class Interruption:
    """A rental's cards stopped being proven by a fault that is not its renter's.

    from_at: since when its work was broken off; proven_to: what was charged ends here, at or after
    from_at. to_at: its next proof, None while there is none. unasked: nobody here asked the cluster
    meanwhile. went_on: the next proof is of the same container, which ran all the while.
    """

    interval_id: UUID
    rental_ref: UUID
    from_at: datetime
    proven_to: datetime
    to_at: datetime | None
    reason: str
    fault: Fault
    unasked: bool
    went_on: bool


@dataclass(frozen=True)
class ProvenSpan:
    """A rental's cards were proven ready in [from_at, to_at), on one cluster."""

    rental_ref: UUID
    from_at: datetime
    to_at: datetime
