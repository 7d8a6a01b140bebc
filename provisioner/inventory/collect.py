"""Asking a cluster what it has: version, namespaces of the pool, nodes, storage. Calls only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provisioner.clusters.reaper import Beat
from provisioner.inventory import parse
from provisioner.inventory.parse import NodeFacts
from provisioner.inventory.storage import NO_CLASSES, NOT_SHOWN, StorageFacts, storage_of
from provisioner.kube.api import ClusterApi
from provisioner.kube.client import mapping
from provisioner.kube.errors import Rejected

# As the provider bundle names them: found by asking "may I create pods here?" from 01 upward until
# the first no, because the role cannot list namespaces.
POOL_NAME = "gpuyard-r-{:02d}"
MAX_POOL = 999
EVERYWHERE = ""


@dataclass(frozen=True)
class Collected:
    version: str
    namespaces: tuple[str, ...]
    nodes: tuple[NodeFacts, ...]
    asked_at: datetime  # the nodes were like this then or later
    reaper: Beat | None = None
    storage: StorageFacts = NO_CLASSES


def collect(api: ClusterApi, *, known: Sequence[str], asked_at: datetime) -> Collected:
    """Raises the errors of kube/errors.py. ``known`` namespaces are taken as they are: only the
    numbers after them are asked for, so a pool that grew is noticed by one question."""
    version = api.server_version()
    namespaces = list(known)
    while len(namespaces) < MAX_POOL:
        name = POOL_NAME.format(len(namespaces) + 1)
        if not api.may_create_pods(name):
            break
        if len(namespaces) == len(known) and api.may_create_pods(EVERYWHERE):
            break  # then every name would be one of the pool's; preflight refuses such a token
        namespaces.append(name)
    nodes = tuple(parse.nodes(api.list_nodes()))
    return Collected(version, tuple(namespaces), nodes, asked_at, heartbeat(api), _storage(api))


def heartbeat(api: ClusterApi) -> Beat | None:
    """The reaper's last sign of life; None without one. A bundle that is older than the reaper
    gives no right to look: that says nothing against the token, so it is no error."""
    try:
        shown = api.reaper_lease()
    except Rejected as error:
        if error.code not in ("not_found", "forbidden"):
            raise
        return None
    meta, spec = mapping(shown.get("metadata")), mapping(shown.get("spec"))
    mark = str(spec.get("renewTime", ""))[:40]
    if not mark:
        return None  # made by the bundle, and never renewed
    version = str(mapping(meta.get("annotations")).get("gpuyard.io/version", ""))
    known = version.isascii() and version.isdigit() and len(version) < 6
    return Beat(mark, int(version) if known else 0)


def _storage(api: ClusterApi) -> StorageFacts:
    """A bundle from before volumes does not show classes: that means none, not a bad token."""
    try:
        return storage_of(api.list_storage_classes())
    except Rejected as error:
        if error.code not in ("forbidden", "not_found"):
            raise
        return NOT_SHOWN
