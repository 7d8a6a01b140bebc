"""The door to an owner's machines, card by card."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from provisioner.clusters import fleet as _fleet
from provisioner.contracts.fleet import MachinesPage, Quarantined, Seats


def machines(*, cluster_id: UUID, offset: int, limit: int) -> MachinesPage:
    """A page of a cluster's nodes with their cards, by name; the same number of statements for
    few and for many."""
    return _fleet.machines(cluster_id=cluster_id, offset=offset, limit=limit)


def seats(*, provider_ref: UUID) -> Seats:
    """All cards of an owner: rented, free, off sale."""
    return _fleet.seats(provider_ref=provider_ref)


def node_names(*, cluster_ids: Collection[UUID]) -> dict[UUID, list[tuple[UUID, str]]]:
    """(id, name) of the nodes set aside, by cluster; one statement."""
    return _fleet.node_names(cluster_ids=cluster_ids)


def quarantined(*, provider_ref: UUID) -> list[Quarantined]:
    """An owner's nodes that are not sold until they are put right."""
    return _fleet.quarantined(provider_ref=provider_ref)
