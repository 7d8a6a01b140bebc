"""PersistentVolumeClaims and storage classes: what we send, and what we read of answers. PURE.

Answers may be hostile or newer than we are: a field of an unexpected type reads as missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kernel.quantity import quantity
from kernel.text import clean

Json = dict[str, Any]

VOLUME_LABEL = "gpuyard.io/volume"
TENANT_LABEL = "gpuyard.io/tenant"
# The scheduler writes here for which node a claim that waited for its first use is bound.
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
GIB = 2**30


@dataclass(frozen=True)
class ClaimSpec:
    """Everything a claim is made of. Ids are the public ones."""

    name: str
    volume: str
    tenant: str
    size_gib: int
    storage_class: str


@dataclass(frozen=True)
class ClaimFacts:
    """A claim as the API server shows it. Identity is ``uid``."""

    name: str
    namespace: str
    uid: str
    volume: str  # our label, as text
    phase: str  # Pending, Bound, Lost
    capacity_gib: int | None  # of the bound volume
    node: str  # where the scheduler wanted it, "" if it did not say
    deleting: bool


def claim(spec: ClaimSpec) -> Json:
    """The claim of one volume. One writer at a time: attachments are exclusive anyway."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": spec.name,
            "labels": {
                "app.kubernetes.io/managed-by": "gpuyard",
                VOLUME_LABEL: spec.volume,
                TENANT_LABEL: spec.tenant,
            },
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "storageClassName": spec.storage_class,
            "resources": {"requests": {"storage": f"{spec.size_gib}Gi"}},
        },
    }


def grown(size_gib: int) -> Json:
    """The merge patch that asks for a larger size."""
    return {"spec": {"resources": {"requests": {"storage": f"{size_gib}Gi"}}}}


def facts(item: object) -> ClaimFacts | None:
    """Facts of one claim object; None for something without a name and a UID."""
    whole = _map(item)
    meta, status = _map(whole.get("metadata")), _map(whole.get("status"))
    name, uid = _text(meta.get("name"), 253), _text(meta.get("uid"), 64)
    if not name or not uid:
        return None
    phase = _text(status.get("phase"), 20)
    capacity = quantity(_map(status.get("capacity")).get("storage"))
    return ClaimFacts(
        name=name,
        namespace=_text(meta.get("namespace"), 63),
        uid=uid,
        volume=_text(_map(meta.get("labels")).get(VOLUME_LABEL), 63),
        phase=phase,
        capacity_gib=math.floor(capacity / GIB) if phase == "Bound" and capacity else None,
        node=_text(_map(meta.get("annotations")).get(_SELECTED_NODE), 253),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: object, limit: int) -> str:
    return clean(value, limit=limit) if isinstance(value, str) else ""
