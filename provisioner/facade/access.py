"""The door to the way into machines: who may come in, whether it was found open, who came."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace as with_field
from uuid import UUID

from provisioner.clusters import register as _register
from provisioner.contracts.access import NamedPort, PortsSeen, RelayValues, VisitView, WayIn
from provisioner.instances import entry as _entry
from provisioner.instances import ports as _ports
from provisioner.instances import raw_ports as _raw_ports
from provisioner.instances.port_names import PortNames


def let_in(*, rental_ref: UUID, keys: Iterable[str]) -> None:
    """In a transaction. Exactly these public key lines open the rental's machines from now on;
    whoever is inside with another one is shown out within five seconds of the commit."""
    _entry.let_in(rental_ref=rental_ref, keys=keys)


def has_gateway() -> bool:
    """Whether this platform lets anybody in to machines. Where it does, a machine can be entered
    in clusters that have a relay; where not, nowhere."""
    return _entry.has_gateway()


def shut(*, rental_ref: UUID) -> None:
    """In a transaction. The rental has ended: its name leads nowhere any more."""
    _entry.shut(rental_ref=rental_ref)


def ways(*, rental_refs: Sequence[UUID]) -> dict[UUID, WayIn]:
    """Of these rentals, those whose present machine was entered from outside and found open."""
    return _entry.ways(rental_refs=rental_refs)


def relay_values(*, cluster_id: UUID, replace: bool) -> RelayValues:
    """In a transaction. What the relay of a cluster needs; with ``replace`` its key is another one
    from now on. Raises NotFound."""
    values = _entry.relay_values(cluster_id=cluster_id, replace=replace)
    return with_field(values, agent=_register.agent_values(cluster_id))


def visits(*, rental_ref: UUID, limit: int) -> list[VisitView]:
    """Who came in to the rental's machines, the latest first."""
    return _entry.visits(rental_ref=rental_ref, limit=limit)


def publish(*, rental_ref: UUID, ports: Iterable[NamedPort]) -> None:
    """In a transaction. Exactly these ports of the rental's machines have names from now on; who is
    inside by another one, or by another mode, is shown out within five seconds of the commit. A
    rental that never had a machine has nothing to name: publish again once it is reserved."""
    _ports.publish(rental_ref=rental_ref, ports=ports)


def give_raw(*, rental_ref: UUID, ports: Collection[int]) -> None:
    """In a transaction. Exactly these ports of the rental's machines have a number at the
    platform's address from now on, those that had one the same. Refusal no_free_port."""
    _raw_ports.give(rental_ref=rental_ref, ports=ports)


def raw_host() -> str | None:
    """Where the numbers are; None where this platform gives ports none."""
    return _raw_ports.host()


def token(*, rental_ref: UUID, replace: bool = False) -> str:
    """What opens the rental's ports of mode token. replace, in a transaction: another one from now
    on. Raises NotFound for a rental that has ended or never had a machine."""
    return _ports.token(rental_ref=rental_ref, replace=replace)


def names() -> PortNames | None:
    """How ports are called; None where this platform gives them no names."""
    return _ports.names()


def ports_seen(*, rental_refs: Sequence[UUID]) -> dict[UUID, PortsSeen]:
    """Of these rentals those that ever had a machine: whether a relay leads there, what listens."""
    return _ports.seen(rental_refs=rental_refs)
