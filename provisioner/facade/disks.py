"""The door to the meters of volumes: who is metered, since when, and what may be charged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kernel.arrays import Array
from provisioner.contracts import Chargeable
from provisioner.contracts.disks import DiskView
from provisioner.contracts.evidence import Evidence
from provisioner.instances import evidence as _evidence
from provisioner.volumes import meter as _meter
from provisioner.volumes import proof as _proof


def meter(*, volume_id: UUID, ref: UUID, gib: int) -> None:
    """In the transaction that makes a volume, or lets it grow: it is metered under ``ref`` once it
    has that size. One reference per size; without any it is free."""
    _meter.set_meter(volume_id=volume_id, ref=ref, gib=gib)


def moved(*, limit: int) -> list[UUID]:
    """References about which there is news."""
    return _meter.moved(limit=limit)


def take(*, ref: UUID) -> DiskView | None:
    """In the transaction that applies it: the disk as it is now, None when there is no news."""
    return _meter.take(ref=ref)


def chargeable(*, limit: int) -> Chargeable:
    """In a transaction, as for rentals; ``rental_refs`` are the references."""
    return _meter.chargeable(limit=limit)


def ack_charged(*, interval_ids: Array, to_at: Array) -> None:
    """In the transaction that charged them: up to when each interval is charged."""
    _meter.ack_charged(interval_ids=interval_ids, to_at=to_at)


def is_settled(*, ref: UUID) -> bool:
    """Whether it is over and every proven second of it is charged."""
    return _meter.is_settled(ref=ref)


def proven(
    *, rental_refs: Sequence[UUID], until: datetime
) -> dict[UUID, tuple[tuple[datetime, datetime], ...]]:
    """As for rentals; ``rental_refs`` are the references. Of a disk that is there, full hours."""
    return _proof.proven(rental_refs, until=until)


def proven_refs(*, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Disks with intervals that are open or were closed since then, by key."""
    return _proof.proven_refs(since=since, after=after, limit=limit)


def evidence(*, interval_id: UUID, from_at: datetime, to_at: datetime) -> Evidence:
    """The observations that justify a charged window of a disk."""
    return _evidence.of_disk(interval_id=interval_id, from_at=from_at, to_at=to_at)
