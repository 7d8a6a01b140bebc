"""The provisioner's door: the only module, with contracts, that other areas may import.

Nothing behind this door talks to a network, except that ``check_address`` resolves a name. Calls
marked "in a transaction" join the caller's and leave the commit to it. Errors: Refusal subclasses
for callers' mistakes, NoCandidate for a race.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kernel.arrays import Array
from kernel.vitals import Vital
from provisioner.clusters import addresses, register, views
from provisioner.contracts import (
    Accelerator,
    AddressBinding,
    BrakeView,
    Chargeable,
    ClusterView,
    EventView,
    Fault,
    GroupView,
    InstanceView,
    IntervalView,
    LogText,
    NodeView,
    PlacementRequest,
    Plan,
    PodOrder,
    ReadyView,
    ReceiptView,
    Room,
    SlotHoldView,
    SlotView,
    UnknownPodView,
    VolumeView,
)
from provisioner.contracts.evidence import Evidence
from provisioner.instances import brakes as _brakes
from provisioner.instances import events, history, lease, logs, meter, release
from provisioner.instances import evidence as _evidence
from provisioner.instances import notice as _notice
from provisioner.instances import proof as _proof
from provisioner.instances import vitals as _vitals
from provisioner.instances.order import mount_problems as _mount_problems
from provisioner.instances.reserve import reserve as _reserve
from provisioner.inventory import accelerators as registry
from provisioner.placement import inventory as _inventory
from provisioner.placement import room as _room
from provisioner.volumes import views as _volume_views
from provisioner.volumes import wish as _wish


def accelerators() -> tuple[Accelerator, ...]:
    """Every card type that can be sold, in the registry's order. Data only."""
    return registry.accelerators()


# --- clusters ---------------------------------------------------------------------------------


def check_address(*, api_url: str, binding: AddressBinding) -> None:
    """Outside a transaction (resolves the name). Raises Refusal("address_forbidden") or
    InvalidRequest; a name that does not resolve is accepted and shown as unreachable later."""
    addresses.check_address(api_url=api_url, binding=binding)


def register_cluster(
    *,
    cluster_id: UUID,
    name: str,
    provider_ref: UUID,
    datacenter_ref: UUID,
    api_url: str,
    ca_pem: str,
    token: str,
    binding: AddressBinding,
) -> ClusterView:
    """In a transaction. Stores a cluster as ``connecting``; the loops look at it after commit.

    Raises InvalidRequest ({"ca_pem": …} for what is no PEM certificate) or address_forbidden.
    """
    register.register_cluster(
        cluster_id=cluster_id,
        name=name,
        provider_ref=provider_ref,
        datacenter_ref=datacenter_ref,
        api_url=api_url,
        ca_pem=ca_pem,
        token=token,
        binding=binding,
    )
    return views.clusters(ids=[cluster_id])[0]


def replace_token(*, cluster_id: UUID, token: str) -> None:
    """In a transaction. Raises NotFound or InvalidRequest."""
    register.replace_token(cluster_id=cluster_id, token=token)


def set_binding(*, provider_ref: UUID, binding: AddressBinding) -> None:
    """In a transaction. For all clusters of the provider, present ones included."""
    register.set_binding(provider_ref=provider_ref, binding=binding)


def retire_cluster(*, cluster_id: UUID) -> None:
    """In a transaction. No new rentals there from now on; running ones go on."""
    register.retire_cluster(cluster_id=cluster_id)


def clusters(
    *, provider_ref: UUID | None = None, ids: Sequence[UUID] | None = None
) -> list[ClusterView]:
    """Oldest first."""
    return views.clusters(provider_ref=provider_ref, ids=ids)


def nodes(*, cluster_id: UUID) -> list[NodeView]:
    """By name, with the reason why a node is not sold."""
    return views.nodes(cluster_id=cluster_id)


def slots(*, cluster_id: UUID) -> list[SlotView]:
    """By node."""
    return views.slots(cluster_id=cluster_id)


def groups(
    *, provider_ref: UUID | None = None, ids: Sequence[UUID] | None = None
) -> list[GroupView]:
    """What offers are derived from, from the maintained summary."""
    return views.groups(provider_ref=provider_ref, ids=ids)


def cluster_health() -> list[ClusterView]:
    """Every cluster with its state and the time of its last full list."""
    return views.clusters()


# --- placement and instances ------------------------------------------------------------------


def plan(request: PlacementRequest) -> Plan:
    """Before the transaction. At most 200 candidates, best first; with none, why not."""
    return _inventory.plan(request)


def rooms(request: PlacementRequest, *, rentals: Sequence[UUID]) -> list[Room]:
    """Where ``request`` would fit if some of these rentals gave their cards back, best first."""
    return _room.rooms(request, rentals=rentals)


def reserve(
    *,
    plan: Plan,
    instance_id: UUID,
    rental_ref: UUID,
    tenant_ref: UUID,
    order: PodOrder,
    gpus: int,
    disk_mib: int,
    wait: bool = False,
) -> InstanceView:
    """In a transaction. Holds the cards and volumes for a new instance, or raises NoCandidate.

    ``wait`` tries once more with a waiting lock of at most a second, for callers about to refuse.
    Raises InvalidRequest for an order that must not reach a cluster; for its volumes NotFound,
    Refusal volume_in_use or invalid_transition.
    """
    return _reserve(
        plan=plan,
        instance_id=instance_id,
        rental_ref=rental_ref,
        tenant_ref=tenant_ref,
        order=order,
        gpus=gpus,
        disk_mib=disk_mib,
        wait=wait,
    )


def request_end(
    *,
    rental_ref: UUID,
    reason: str,
    fault: Fault,
    without_notice: bool = False,
    asked_at: datetime | None = None,
) -> UUID | None:
    """In a transaction. Idempotent: the meter stops ``asked_at`` or now; a restart under way is
    called off. The instance that ends, None without one. without_notice: its owner owed one."""
    return release.request_end(
        rental_ref=rental_ref,
        reason=reason,
        fault=fault,
        without_notice=without_notice,
        asked_at=asked_at,
    )


def request_restart(*, rental_ref: UUID, reason: str, fault: Fault) -> UUID | None:
    """In a transaction. The meter stops now; another instance takes over the same cards when the
    present one is gone. The other's id, or None when nothing runs that could be restarted."""
    return release.request_restart(rental_ref=rental_ref, reason=reason, fault=fault)


def set_notice(*, rental_ref: UUID, at: datetime | None) -> None:
    """In a transaction. Tells the rental's machine, in a file, when it will be stopped; None takes
    it back. Nothing for one that was not ordered so."""
    _notice.set_notice(rental_ref=rental_ref, at=at)


def set_leases(leases: Sequence[tuple[UUID, datetime]]) -> int:
    """(rental_ref, until): how long each one's pod may live without us; the number of changes.

    One statement. A row that somebody holds just now keeps its wish until the next call.
    """
    return lease.set_leases(leases)


def instance(*, rental_ref: UUID) -> InstanceView | None:
    """The latest instance of a rental."""
    return events.instance(rental_ref=rental_ref)


def instance_events(*, rental_ref: UUID) -> list[EventView]:
    """All events of a rental's instances, oldest first."""
    return events.instance_events(rental_ref=rental_ref)


# --- volumes ----------------------------------------------------------------------------------


def mount_problems(paths: Sequence[str]) -> list[str]:
    """What is wrong with the places where volumes are to be mounted; a sentence each."""
    return _mount_problems(paths)


def create_volume(*, volume_id: UUID, tenant_ref: UUID, cluster_id: UUID, size_gib: int) -> None:
    """In a transaction. Raises InvalidRequest (size_gib), NotFound, NoStorage."""
    _wish.create(
        volume_id=volume_id, tenant_ref=tenant_ref, cluster_id=cluster_id, size_gib=size_gib
    )


def resize_volume(*, volume_id: UUID, size_gib: int) -> None:
    """In a transaction. Volumes only grow; the size it has changes nothing.

    Raises NotFound, InvalidRequest (size_gib), Refusal invalid_transition.
    """
    _wish.resize(volume_id=volume_id, size_gib=size_gib)


def delete_volumes(*, volume_ids: Sequence[UUID], reason: str = "delete_requested") -> None:
    """In a transaction. With their data; the meter stops now, repeating it changes nothing.

    Raises NotFound, Refusal volume_in_use; then none is deleted.
    """
    _wish.delete(volume_ids=volume_ids, reason=reason)


def volumes(*, ids: Sequence[UUID]) -> list[VolumeView]:
    """Those with these ids, oldest first."""
    return _volume_views.volumes(ids=ids)


def volume_receipt(*, volume_id: UUID) -> ReceiptView | None:
    """The signed proof of a deletion, None until the volume's absence was observed."""
    return _volume_views.receipt(volume_id=volume_id)


# --- the mass brake ---------------------------------------------------------------------------


def brakes() -> list[BrakeView]:
    """Open ones and those of the last thirty days, newest first."""
    return _brakes.brakes()


def release_brake(*, brake_id: UUID, by: str, note: str) -> BrakeView:
    """In a transaction. What was held is looked at again and decided anew.

    Raises NotFound, InvalidRequest without a note, invalid_transition when it is released.
    """
    return _brakes.release(brake_id=brake_id, by=by, note=note)


def mark_restored(*, backup_at: datetime) -> BrakeView:
    """In a transaction. The database is as old as ``backup_at``: nothing that is older than now is
    ended or deleted until the brake is released. Idempotent. InvalidRequest for a time to come."""
    return _brakes.mark_restored(backup_at=backup_at)


def unknown_pods() -> list[UnknownPodView]:
    """Pods with our label whose instance we do not know, oldest first."""
    return _brakes.unknown_pods()


def instances(*, rental_ref: UUID) -> list[InstanceView]:
    """All instances of a rental, newest first."""
    return events.instances(rental_ref=rental_ref)


def kept_logs(*, instance_id: UUID) -> list[LogText]:
    """What is kept of an instance that ended by itself, the older run first; for thirty days."""
    return logs.kept(instance_id)


def ready_intervals(*, rental_ref: UUID) -> list[ReadyView]:
    """When the rental's cards were proven ready, oldest first."""
    return meter.ready_intervals(rental_ref=rental_ref)


def restarts(*, rental_ref: UUID) -> dict[UUID, int]:
    """How often each instance's program was restarted by its host, as last seen; instances whose
    program was never seen are absent."""
    return events.restarts(rental_ref=rental_ref)


# --- for readers ------------------------------------------------------------------------------


def behind(*, limit: int) -> list[tuple[UUID, UUID]]:
    """(instance_id, rental_ref) with events that were not acknowledged yet."""
    return events.behind(limit=limit)


def any_gone(*, instance_ids: Sequence[UUID]) -> bool:
    """Whether the absence of one of these instances was observed."""
    return events.any_gone(instance_ids=instance_ids)


def take_events(*, instance_id: UUID) -> list[EventView]:
    """In a transaction, which keeps the instance locked. Unacknowledged events in order."""
    return events.take_events(instance_id=instance_id)


def ack_events(*, instance_id: UUID, seq: int) -> None:
    """In the transaction that applied them."""
    events.ack_events(instance_id=instance_id, seq=seq)


def chargeable(*, limit: int) -> Chargeable:
    """In a transaction, which keeps the intervals locked. One window per interval at a time,
    inside one clock hour (UTC); call again after acknowledging until it counts none."""
    return meter.chargeable(limit=limit)


def ack_charged(*, interval_ids: Array, to_at: Array) -> None:
    """In the transaction that charged them: up to when each interval is charged."""
    meter.ack_charged(interval_ids=interval_ids, to_at=to_at)


def proven(
    *, rental_refs: Sequence[UUID], until: datetime
) -> dict[UUID, tuple[tuple[datetime, datetime], ...]]:
    """Each rental's proven seconds before ``until`` as merged [from, to), oldest first; absent
    where nothing is proven. One statement, whatever their number."""
    return _proof.proven(rental_refs, until=until)


def proven_refs(*, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Rentals with intervals that are open or were closed since then, by key."""
    return _proof.proven_refs(since=since, after=after, limit=limit)


def is_settled(*, rental_ref: UUID) -> bool:
    """Whether every proven second of the rental's past intervals is charged."""
    return meter.is_settled(rental_ref=rental_ref)


def evidence(*, interval_id: UUID, from_at: datetime, to_at: datetime) -> Evidence:
    """The observations that justify a charged window."""
    return _evidence.evidence(interval_id=interval_id, from_at=from_at, to_at=to_at)


# --- for people on call -----------------------------------------------------------------------


def vitals() -> list[Vital]:
    """How the provisioner fares: ages and counts of what is unfinished."""
    return _vitals.vitals()


def token_opens() -> bool | None:
    """Whether the present sealing key opens the newest cluster's token; None without a cluster."""
    return register.newest_token_opens()


def slot_holds(*, rental_ref: UUID) -> list[SlotHoldView]:
    """Every card that is or was held for a rental, oldest first."""
    return history.holds(rental_ref=rental_ref)


def intervals(*, rental_ref: UUID) -> list[IntervalView]:
    """Every interval in which a rental's cards were proven ready, oldest first."""
    return history.intervals(rental_ref=rental_ref)
