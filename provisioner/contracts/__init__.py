"""What crosses the provisioner's door: plain values, no table, no network.

Units: memory and disk in MiB unless a name says GiB, CPU in thousandths of a core, durations in
seconds, times aware and in UTC. ``*_ref`` is an opaque id of another area.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from kernel.arrays import Array
from provisioner.contracts.joining import NOT_JOINING, Joining
from provisioner.contracts.preflight import PreflightState
from provisioner.contracts.records import (
    MOST_LOG_LINES,
    BrakeView,
    IntervalView,
    LogLine,
    LogText,
    ReadyView,
    Room,
    SlotHoldView,
    UnknownPodView,
)

# Besides what is defined here.
__all__ = [
    "MOST_LOG_LINES",
    "BrakeView",
    "IntervalView",
    "LogLine",
    "LogText",
    "ReadyView",
    "Room",
    "SlotHoldView",
    "UnknownPodView",
]


class ClusterState(StrEnum):
    """How a cluster stands. Only ``ready`` takes new rentals."""

    CONNECTING = "connecting"  # registered, not yet listed once
    READY = "ready"
    UNREACHABLE = "unreachable"  # no answer, or no usable one
    CREDENTIAL_REJECTED = "credential_rejected"  # 401/403: the token is wrong or lacks a right
    TLS_REJECTED = "tls_rejected"  # the certificate is not signed by the given CA
    DRAINING = "draining"
    RETIRED = "retired"


class ClusterMode(StrEnum):
    """How we reach a cluster's API server."""

    DIRECT = "direct"  # at its address, with a CA and a token
    AGENT = "agent"  # through a program there that dials out to us


class ReaperState(StrEnum):
    """How the reaper of a cluster stands: the program there that ends pods whose lease ran out."""

    UNKNOWN = "unknown"  # not looked at yet, or registered a moment ago
    RUNNING = "running"
    MISSING = "missing"  # no heartbeat was ever seen: the bundle's reaper.yaml is not applied
    SILENT = "silent"  # its heartbeat stopped
    OUTDATED = "outdated"  # it runs, in an older version than this platform's bundle has


class InstanceState(StrEnum):
    """One placement attempt of a rental; see instances/state.py for moves and named sets."""

    RESERVED = "reserved"  # slots held, no object created yet
    CREATING = "creating"  # create sent
    PULLING = "pulling"
    STARTING = "starting"  # containers up, checks running
    READY = "ready"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"
    STOPPING = "stopping"  # deletion asked, absence not yet observed
    GONE = "gone"  # absence observed; final


class StorageDomain(StrEnum):
    """How far the data of a cluster's volumes reach. A claim never crosses clusters."""

    NONE = "none"  # no storage class that volumes can use
    NODE = "node"  # the data stays on the node where it was first used
    CLUSTER = "cluster"  # any node of the cluster can mount it


class VolumeState(StrEnum):
    """A persistent disk; see volumes/state.py for moves and named sets."""

    REQUESTED = "requested"  # wished for, no claim created yet
    CREATING = "creating"  # the claim was sent; many classes bind it at its first use only
    AVAILABLE = "available"  # bound, no instance has it
    ATTACHED = "attached"  # bound, a live instance has it
    RESIZING = "resizing"  # a larger size was asked for and is not there yet
    DELETING = "deleting"  # deletion asked, absence not yet observed
    DELETED = "deleted"  # absence observed; final
    LOST = "lost"  # its cluster says that the data is gone


class Fault(StrEnum):
    """Whose fault the end or the interruption was."""

    NONE = "none"
    RENTER = "renter"
    HOST = "host"
    PLATFORM = "platform"
    FUNDS = "funds"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class AddressBinding:
    """Networks and ports a provider's API server may live on although they are not public."""

    networks: tuple[str, ...] = ()  # CIDR texts
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Accelerator:
    """One row of the registry (inventory/accelerators.toml): a card, or a part of one."""

    slug: str  # "nvidia-h100-80gb-sxm"
    vendor: str  # "nvidia"
    name: str  # "NVIDIA H100 80GB SXM"
    memory_mib: int
    resource_name: str  # "nvidia.com/gpu"
    sharing_modes: tuple[str, ...]
    toolkit: str  # "cuda"
    interconnect: str | None
    partition: str | None = None  # "1g.10gb", of a part
    vendor_name: str = ""  # "NVIDIA"


@dataclass(frozen=True)
class ClusterView:
    """A cluster as its owner and staff see it; never holds the token."""

    id: UUID
    name: str
    provider_ref: UUID
    datacenter_ref: UUID
    api_url: str | None  # None with an agent
    state: ClusterState
    reason: str  # short code: "ready", "dns", "connect", "timeout", "unauthorized", "bad_ca", ...
    detail: str  # a sentence: what, whose fault, what next
    state_since: datetime
    server_version: str | None
    last_observed_at: datetime | None
    nodes: int
    slots: int
    slots_free: int
    reaper_state: ReaperState
    reaper_version: int | None
    reaper_seen_at: datetime | None  # when its heartbeat was last seen to change
    preflight: PreflightState = PreflightState.WAITING
    preflight_sells: bool = True  # it takes new rentals as far as preflight decides
    preflight_at: datetime | None = None
    relay_seen_at: datetime | None = None  # None: nobody gets into its machines by SSH
    storage: StorageDomain = StorageDomain.NONE
    storage_class: str = ""
    storage_reason: str = ""  # a sentence: why this class and this domain, or why none
    mode: ClusterMode = ClusterMode.DIRECT
    joining: Joining = NOT_JOINING


@dataclass(frozen=True)
class NodeView:
    id: UUID
    name: str
    ready: bool
    accelerator: str | None
    slots: int
    slots_free: int
    reason: str
    quarantined_at: datetime | None = None  # other cards were found than its labels say
    evidence: dict[str, Any] | None = None  # of that: {"text", "evidence"}
    accelerators: tuple[str, ...] = ()  # of a mixed node several
    cordoned_at: datetime | None = None  # its owner took it off sale


@dataclass(frozen=True)
class SlotView:
    id: UUID
    node: str
    state: str  # free, held, dirty, cordoned
    accelerator: str
    device_uid: str | None


@dataclass(frozen=True)
class GroupView:
    """One homogeneous group of slots: what an offer is derived from."""

    id: UUID
    cluster_id: UUID
    provider_ref: UUID
    datacenter_ref: UUID
    accelerator: str  # slug
    vendor: str
    memory_mib: int
    driver: str | None
    cuda_max: str | None
    sharing_mode: str
    verified: bool
    slots_total: int
    slots_free: int
    largest_block: int  # most free slots on one node
    vcpus_milli_per_gpu: int
    ram_mib_per_gpu: int
    disk_mib_per_gpu: int
    storage: StorageDomain = StorageDomain.NONE


@dataclass(frozen=True)
class VolumeMount:
    """A volume in a pod. ``create_gib``: made so large where the order is placed; 0: it exists."""

    volume_id: UUID
    path: str
    read_only: bool = False
    create_gib: int = 0


# Hosts reboot within ten minutes; the node controller itself needs one to say that a node is lost.
DEFAULT_GRACE = 600


@dataclass(frozen=True)
class PodOrder:
    """What runs in the pod. Secret values are sealed before they are stored."""

    image: str  # by digest: "name@sha256:…"
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    secret_env: dict[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    ssh_public_keys: tuple[str, ...] = ()
    termination_grace: int = 10
    grace_seconds: int = DEFAULT_GRACE  # trouble of the host lasting longer ends the instance
    pull_secret: dict[str, str] | None = None  # registry, username, password
    volumes: tuple[VolumeMount, ...] = ()
    notice: bool = False  # the program may be told in a file when it will be stopped


@dataclass(frozen=True)
class PlacementRequest:
    """What is wanted. ``group_ids`` are the offers that fit, cheapest first; never empty.

    ``cluster_ids`` and ``node_ids``: where the order's data is, so nowhere else will do; empty:
    anywhere. ``needs_storage``: for a volume; ``needs_way_in``: for somebody who has to get in.
    """

    group_ids: tuple[UUID, ...]
    gpus: int
    disk_mib: int
    tenant_ref: UUID
    exclude_nodes: tuple[UUID, ...] = ()
    cluster_ids: tuple[UUID, ...] = ()
    node_ids: tuple[UUID, ...] = ()
    needs_storage: bool = False
    needs_way_in: bool = False


@dataclass(frozen=True)
class Candidate:
    """A node that can take the order now, with the reason for its rank."""

    node_id: UUID
    group_id: UUID
    share_id: UUID  # the row that a reservation locks: this group's slots on this node
    cluster_id: UUID
    free: int
    score: int
    why: str


@dataclass(frozen=True)
class Plan:
    """The planner's decision: at most 200 candidates, best first; empty with reasons if none."""

    request: PlacementRequest
    candidates: tuple[Candidate, ...]
    rejections: dict[str, int]  # reason -> number of nodes, e.g. {"too_few_free": 12}


class NoCandidate(Exception):
    """No candidate of the plan could be locked: taken by somebody else in the meantime."""


@dataclass(frozen=True)
class InstanceView:
    id: UUID
    rental_ref: UUID
    tenant_ref: UUID
    cluster_id: UUID
    group_id: UUID
    node_id: UUID
    node: str
    namespace: str
    pod_name: str
    pod_uid: str | None
    state: InstanceState
    reason: str
    created_at: datetime
    ready_at: datetime | None
    pod_created_at: datetime | None  # when the API server acknowledged the create


class NoStorage(Exception):
    """The cluster cannot take a new volume now. ``code``: no_storage, cluster_not_ready or
    namespaces_exhausted; the message is a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class VolumeView:
    """A volume with the times that its meter rests on.

    It exists for the meter from ``bound_at`` to the first of ``delete_requested_at`` and
    ``lost_at``; its sizes in between are in its events.
    """

    id: UUID
    tenant_ref: UUID
    cluster_id: UUID
    size_gib: int  # as wished for
    bound_gib: int | None  # as the cluster last showed it
    domain: StorageDomain
    storage_class: str
    expandable: bool
    node_id: UUID | None  # node-local and bound: where the data is
    node: str | None
    state: VolumeState
    reason: str
    text: str
    instance_id: UUID | None  # the live instance that has it
    rental_ref: UUID | None
    created_at: datetime
    bound_at: datetime | None
    delete_requested_at: datetime | None
    deleted_at: datetime | None
    lost_at: datetime | None


@dataclass(frozen=True)
class ReceiptView:
    """Proof of an erasure: what was deleted and which list showed its absence, signed."""

    volume_id: UUID
    at: datetime
    content: dict[str, Any]
    sha256: str  # of the content as canonical JSON
    signature: str  # Ed25519 over that digest, hexadecimal
    public_key: str


@dataclass(frozen=True)
class EventView:
    """One step of an instance; ``seq`` is gapless per instance and starts at 1."""

    instance_id: UUID
    rental_ref: UUID
    seq: int
    at: datetime
    state: InstanceState
    reason: str
    fault: Fault
    text: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Chargeable:
    """Proven-ready windows that are not charged yet: [from_at, to_at), whole seconds, inside one
    clock hour (UTC). Columns of equal length, one row per interval."""

    count: int
    interval_ids: Array
    rental_refs: Array
    from_at: Array
    to_at: Array
