"""Clusters, nodes, slots and groups as plain values for other areas. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, Subquery, Sum

from provisioner.clusters import probation
from provisioner.clusters.register import observed_state
from provisioner.contracts import (
    ClusterMode,
    ClusterView,
    GroupView,
    InstanceState,
    NodeView,
    ReaperState,
    SlotView,
    StorageDomain,
)
from provisioner.contracts.joining import Joining
from provisioner.contracts.preflight import PreflightState
from provisioner.models import Cluster, DeviceGroup, Instance, Node, NodeShare, Probe, Slot


def clusters(
    *, provider_ref: UUID | None = None, ids: Sequence[UUID] | None = None
) -> list[ClusterView]:
    """Clusters, oldest first, of one provider or with these ids."""
    rows = Cluster.objects.annotate(**_counted()).order_by("id")
    if provider_ref is not None:
        rows = rows.filter(provider_ref=provider_ref)
    if ids is not None:
        rows = rows.filter(id__in=ids)
    found: list[Any] = list(rows)
    left = probation.starts_left(found)
    return [
        replace(
            _cluster_view(row),
            joining=Joining(
                benchmark_until=_waits_until(row),
                probation_until=probation.ends_at(row),
                starts_left=left.get(row.id, 0),
                probe_failure=row.probe_failure or "",
            ),
        )
        for row in found
    ]


def _counted() -> dict[str, Any]:
    """What is worked out beside each row, in the same statement: every page of an owner asks."""
    mine = OuterRef("pk")
    shares = NodeShare.objects.filter(node__cluster=mine).order_by().values("node__cluster")
    nodes = Node.objects.filter(cluster=mine, missing_since__isnull=True).order_by()
    probes = Probe.objects.filter(cluster=mine, ended_at__isnull=False).order_by("-number")
    free = Sum("slots_free", filter=Q(sellable=True), default=0)
    return {
        "alive": Exists(Instance.objects.filter(cluster=mine).exclude(state=InstanceState.GONE)),
        "total": Subquery(shares.annotate(sum=Sum("slots_total")).values("sum")),
        "free": Subquery(shares.annotate(sum=free).values("sum")),
        "node_count": Subquery(nodes.values("cluster").annotate(n=Count("id")).values("n")),
        # Why its last probe told nothing; "" where it did.
        "probe_failure": Subquery(probes.values("failure")[:1]),
    }


def _waits_until(row: Cluster) -> datetime | None:
    waits = row.benchmarked_at is None and not row.preflight_passed
    return row.benchmark_until if waits else None


def _cluster_view(row: Any) -> ClusterView:
    """Of a row with what :func:`_counted` adds."""
    return ClusterView(
        id=row.id,
        name=row.name,
        provider_ref=row.provider_ref,
        datacenter_ref=row.datacenter_ref,
        api_url=row.api_url or None,
        state=observed_state(row, alive=row.alive),
        reason=row.reason,
        detail=row.detail,
        state_since=row.state_since,
        server_version=row.server_version,
        last_observed_at=row.last_positive_at,
        nodes=row.node_count or 0,
        slots=row.total or 0,
        slots_free=row.free or 0,
        reaper_state=ReaperState(row.reaper_state),
        reaper_version=row.reaper_version,
        reaper_seen_at=row.reaper_seen_at,
        relay_seen_at=row.relay_seen_at,
        preflight=PreflightState(row.preflight_state),
        preflight_sells=row.preflight_passed,
        preflight_at=row.preflight_at,
        storage=StorageDomain(row.storage_domain),
        storage_class=row.storage_class,
        storage_reason=row.storage_reason,
        mode=ClusterMode(row.mode),
    )


def nodes(*, cluster_id: UUID) -> list[NodeView]:
    """The nodes set aside in one cluster, with why a node is not sold."""
    found = Node.objects.filter(cluster_id=cluster_id).order_by("name")
    views = []
    for node in found.prefetch_related("shares__group"):
        shares = list(node.shares.all())
        views.append(
            NodeView(
                id=node.id,
                name=node.name,
                ready=node.ready,
                accelerator=shares[0].group.accelerator if len(shares) == 1 else None,
                accelerators=tuple(sorted({share.group.accelerator for share in shares})),
                slots=sum(share.slots_total for share in shares),
                slots_free=sum(share.slots_free for share in shares if share.sellable),
                cordoned_at=node.cordoned_at,
                reason=node.detail or node.reason or _why_quarantined(shares),
                quarantined_at=min(
                    (at for share in shares if (at := share.quarantined_at)), default=None
                ),
                evidence=next((share.quarantine for share in shares if share.quarantined_at), None),
            )
        )
    return views


def _why_quarantined(shares: Sequence[NodeShare]) -> str:
    said = [share.quarantine for share in shares if share.quarantined_at]
    if not said:
        return ""
    what = (said[0] or {}).get("text", "")
    return f"{what} It is not sold until you have put it right and release it."


def slots(*, cluster_id: UUID) -> list[SlotView]:
    rows = (
        Slot.objects.filter(share__node__cluster_id=cluster_id)
        .select_related("share__node", "share__group")
        .order_by("share__node__name", "share", "number")
    )
    return [
        SlotView(
            id=row.id,
            node=row.share.node.name,
            state=row.state,
            accelerator=row.share.group.accelerator,
            device_uid=row.device_uid,
        )
        for row in rows
    ]


def groups(
    *, provider_ref: UUID | None = None, ids: Sequence[UUID] | None = None
) -> list[GroupView]:
    """Homogeneous groups from the maintained summary, oldest first."""
    rows = DeviceGroup.objects.order_by("id")
    if provider_ref is not None:
        rows = rows.filter(provider_ref=provider_ref)
    if ids is not None:
        rows = rows.filter(id__in=ids)
    return [
        GroupView(
            id=row.id,
            cluster_id=row.cluster_id,
            provider_ref=row.provider_ref,
            datacenter_ref=row.datacenter_ref,
            accelerator=row.accelerator,
            vendor=row.vendor,
            memory_mib=row.memory_mib,
            driver=row.driver or None,
            cuda_max=row.cuda_max or None,
            sharing_mode=row.sharing_mode,
            verified=row.verified,
            slots_total=row.slots_total,
            slots_free=row.slots_free,
            largest_block=row.largest_block,
            vcpus_milli_per_gpu=row.vcpus_milli_per_gpu,
            ram_mib_per_gpu=row.ram_mib_per_gpu,
            disk_mib_per_gpu=row.disk_mib_per_gpu,
            storage=StorageDomain(row.storage_domain),
        )
        for row in rows
    ]
