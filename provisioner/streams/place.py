"""Where an instance is: the one look into the database that a stream takes, in a thread, and gives
its connection back at once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from provisioner.contracts import InstanceState
from provisioner.models import Cluster, Instance

# Its containers are being stopped or are gone: what a log still says it says to its end.
_ENDING = frozenset({InstanceState.STOPPING, InstanceState.GONE})


@dataclass(frozen=True)
class Place:
    """An instance's pod as the row has it now. cluster: with its present token, still sealed."""

    cluster: Cluster
    rental_ref: UUID
    namespace: str
    pod_name: str
    created: bool  # a pod was seen; before that there is nothing to ask for
    ending: bool


def find(instance_id: UUID, tenant_ref: UUID) -> Place | None:
    """None for an instance that is not this tenant's. Holds no connection when it returns."""
    try:
        row = (
            Instance.objects.filter(pk=instance_id, tenant_ref=tenant_ref)
            .select_related("cluster", "namespace")
            .first()
        )
    finally:
        if not connection.in_atomic_block:
            connection.close()
    if row is None:
        return None
    return Place(
        cluster=row.cluster,
        rental_ref=row.rental_ref,
        namespace=row.namespace.name,
        pod_name=row.pod_name,
        created=row.pod_uid is not None,
        ending=InstanceState(row.state) in _ENDING,
    )
