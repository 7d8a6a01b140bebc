"""Asking a cluster what it has: version, namespaces of the pool, nodes, storage. Calls only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.inventory import parse
from provisioner.inventory.parse import NodeFacts
from provisioner.inventory.storage import NO_CLASSES, NOT_SHOWN, StorageFacts, storage_of
from provisioner.kube.api import ClusterApi
from provisioner.kube.errors import Rejected

# As the provider bundle names them: found by asking "may I create pods here?" from 01 upward until
# the first no, because the role cannot list namespaces.
POOL_NAME = "gpuyard-r-{:02d}"
MAX_POOL = 999


@dataclass(frozen=True)
class Collected:
    version: str
    namespaces: tuple[str, ...]
    nodes: tuple[NodeFacts, ...]
    storage: StorageFacts = NO_CLASSES


def collect(api: ClusterApi, *, known: Sequence[str]) -> Collected:
    """Raises the errors of kube/errors.py. ``known`` namespaces are taken as they are: only the
    numbers after them are asked for, so a pool that grew is noticed by one question."""
    version = api.server_version()
    namespaces = list(known)
    while len(namespaces) < MAX_POOL:
        name = POOL_NAME.format(len(namespaces) + 1)
        if not api.may_create_pods(name):
            break
        namespaces.append(name)
    found = tuple(parse.nodes(api.list_nodes()))
    return Collected(version, tuple(namespaces), found, _storage(api))


def _storage(api: ClusterApi) -> StorageFacts:
    """A bundle from before volumes does not show classes: that means none, not a bad token."""
    try:
        return storage_of(api.list_storage_classes())
    except Rejected as error:
        if error.code not in ("forbidden", "not_found"):
            raise
        return NOT_SHOWN
