"""What crosses the door about an owner's cards one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from kernel.arrays import Array


@dataclass(frozen=True)
class Stretches:
    """Amounts known per proven stretch and day, as columns. seconds: of each of its gpus."""

    interval_ids: Array
    days: Array
    gpus: Array
    seconds: Array
    amounts: Array


@dataclass(frozen=True)
class CardSum:
    """Of one card or of a whole group, of one day or of all. day, slot_id and what belongs to it:
    None where not asked for. group_id None: what no known card explains.

    gpu_seconds: proven and charged; there_seconds: in which the cards were there to be rented.
    """

    day: date | None
    group_id: UUID | None
    slot_id: UUID | None
    cluster_id: UUID | None
    node_id: UUID | None
    node: str | None
    number: int | None
    gpu_seconds: int
    there_seconds: int
    amount: int
