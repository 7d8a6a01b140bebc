"""Records that are shown for people: brakes, strangers, stretches, logs, held cards.

Plain values like all that crosses the door; provisioner.contracts gives them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from kernel.ids import public
from kernel.text import rfc3339


@dataclass(frozen=True)
class Room:
    """A node where an order would fit if rentals gave cards back. coming: cards that are free, or
    will be without anybody's doing; held: (rental, cards) of those that were asked about."""

    share_id: UUID
    node_id: UUID
    group_id: UUID
    coming: int
    held: tuple[tuple[UUID, int], ...]


@dataclass(frozen=True)
class BrakeView:
    """One pull of the mass brake. cluster_id None: everywhere, after a restore of the database."""

    id: UUID
    cluster_id: UUID | None
    cause: str  # list, trouble, ends, sweep, restored
    detail: str
    tripped_at: datetime
    wanted: int
    limit: int
    backup_at: datetime | None
    released_at: datetime | None
    released_by: str
    note: str


@dataclass(frozen=True)
class UnknownPodView:
    """A pod with our label whose instance we do not know; ``label`` is what it claims."""

    cluster_id: UUID
    cluster: str
    namespace: str
    name: str
    uid: str
    label: str
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True)
class ReadyView:
    """A stretch in which the cards were proven ready. to_at: None while it goes on."""

    instance_id: UUID
    from_at: datetime
    to_at: datetime | None
    proven_to: datetime  # what may be charged ends here


# Lines that one answer may hold: a page that people still scroll through.
MOST_LOG_LINES = 2000


@dataclass(frozen=True)
class LogLine:
    """A line of a program's output, already harmless text. at: the host's clock, None if it gave
    no readable time."""

    at: str | None
    text: str


@dataclass(frozen=True)
class LogText:
    """A piece of an instance's log.

    kind: live (read from the host now), kept (stored when the machine ended by itself), none
    (there is nothing, ``detail`` says why). truncated: something before or inside is missing.
    """

    instance_id: UUID | None
    kind: str
    lines: tuple[LogLine, ...] = ()
    truncated: bool = False
    detail: str | None = None
    previous: bool = False  # of the run before the last restart of the program
    taken_at: datetime | None = None

    def document(self) -> dict[str, Any]:
        """As the API shows it, whoever answers."""
        return {
            "instance": public("instance", self.instance_id) if self.instance_id else None,
            "kind": self.kind,
            "previous": self.previous,
            "items": [{"at": line.at, "text": line.text} for line in self.lines],
            "truncated": self.truncated,
            "detail": self.detail,
            "taken_at": rfc3339(self.taken_at),
            "stream_url": None,
        }


@dataclass(frozen=True)
class SlotHoldView:
    """A card that is or was held for a rental; ``number`` is the seat on its node."""

    instance_id: UUID
    slot_id: UUID
    node: str
    number: int
    from_at: datetime
    to_at: datetime | None


@dataclass(frozen=True)
class IntervalView:
    """An interval in which the cards were proven ready, and how far it is charged."""

    interval_id: UUID
    instance_id: UUID
    pod_uid: str
    gpus: int
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None
    good_until: datetime | None
    charged_to: datetime
    settled: bool
    proof: dict[str, Any]
