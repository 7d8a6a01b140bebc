"""What crosses the door about an owner's machines, card by card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Seat(StrEnum):
    """How a card stands, for its owner. What holds it comes first, then what keeps it off sale."""

    FREE = "free"
    RENTED = "rented"
    DIRTY = "dirty"  # its renter is gone; it is free again once that was observed
    MEASURED = "measured"  # a probe of ours has it for a minute
    OCCUPIED = "occupied"  # the cluster had no room for a machine on it: something else took it
    QUARANTINED = "quarantined"  # other cards were found on its node than its labels say
    CORDONED = "cordoned"  # its owner took the node off sale
    OFF = "off"  # the node is not sold for another reason, which the node tells


@dataclass(frozen=True)
class CardView:
    """One card. ``rented_since``: None unless somebody has it."""

    id: UUID
    number: int
    accelerator: str
    seat: Seat
    rented_since: datetime | None


@dataclass(frozen=True)
class MachineView:
    """One node with its cards. ``why``: a sentence where it is not sold, else empty."""

    id: UUID
    name: str
    ready: bool
    why: str
    cordoned_at: datetime | None
    quarantined_at: datetime | None
    cards: tuple[CardView, ...]


@dataclass(frozen=True)
class MachinesPage:
    """Nodes by name; ``total``: of all pages."""

    machines: tuple[MachineView, ...]
    total: int


@dataclass(frozen=True)
class Seats:
    """Cards of an owner together. ``off_sale``: neither rented nor to be rented now."""

    total: int
    rented: int
    free: int

    @property
    def off_sale(self) -> int:
        return self.total - self.rented - self.free


@dataclass(frozen=True)
class Quarantined:
    """A node that is not sold until its owner put it right."""

    cluster_id: UUID
    node_id: UUID
    node: str
    since: datetime
