"""The door to nodes whose cards are not what their labels say."""

from __future__ import annotations

from uuid import UUID

from kernel import clock
from provisioner.clusters import register
from provisioner.contracts.quarantine import QuarantinedView
from provisioner.instances import quarantine as _quarantine


def quarantined() -> list[QuarantinedView]:
    """Every host in quarantine, the latest last."""
    return _quarantine.quarantined()


def release(*, cluster_id: UUID, node_id: UUID) -> None:
    """In a transaction: out of quarantine, and on sale with the next inventory. Raises NotFound;
    InvalidRequest for a node that is not in it."""
    _quarantine.lift(cluster_id=cluster_id, node_id=node_id, at=clock.now())
    register.look_again(cluster_id=cluster_id)
