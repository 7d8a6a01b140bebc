"""The door to the way into machines: who may come in, whether it was found open, who came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from provisioner.contracts.access import RelayValues, VisitView, WayIn
from provisioner.instances import entry as _entry


def let_in(*, rental_ref: UUID, keys: Iterable[str]) -> None:
    """In a transaction. Exactly these public key lines open the rental's machines from now on;
    whoever is inside with another one is shown out within five seconds of the commit."""
    _entry.let_in(rental_ref=rental_ref, keys=keys)


def shut(*, rental_ref: UUID) -> None:
    """In a transaction. The rental has ended: its name leads nowhere any more."""
    _entry.shut(rental_ref=rental_ref)


def ways(*, rental_refs: Sequence[UUID]) -> dict[UUID, WayIn]:
    """Of these rentals, those whose present machine was entered from outside and found open."""
    return _entry.ways(rental_refs=rental_refs)


def relay_values(*, cluster_id: UUID, replace: bool) -> RelayValues:
    """In a transaction. What the relay of a cluster needs; with ``replace`` its key is another one
    from now on. Raises NotFound."""
    return _entry.relay_values(cluster_id=cluster_id, replace=replace)


def visits(*, rental_ref: UUID, limit: int) -> list[VisitView]:
    """Who came in to the rental's machines, the latest first."""
    return _entry.visits(rental_ref=rental_ref, limit=limit)
