"""Supply made directly in the tables, and renting from it through the door."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connection, transaction

from kernel import clock
from kernel.ids import new_id
from provisioner import facade
from provisioner.clusters.register import seal_token
from provisioner.contracts import Fault, InstanceView, PlacementRequest, Plan, PodOrder
from provisioner.models import (
    Cluster,
    ClusterLoop,
    DeviceGroup,
    GroupChange,
    Hold,
    Instance,
    Namespace,
    Node,
    NodeShare,
    Slot,
)

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
ORDER = PodOrder(image=IMAGE, command=("sleep", "infinity"))

Value = TypeVar("Value")


def sure(value: Value | None) -> Value:
    """``value``, which the test knows to be there."""
    assert value is not None
    return value


@dataclass
class Yard:
    """One cluster with one group on some nodes."""

    cluster: Cluster
    group: DeviceGroup
    shares: list[NodeShare] = field(default_factory=list)


def make_yard(nodes: int = 1, cards: int = 2, namespaces: int = 4, **cluster: Any) -> Yard:
    """A ready cluster; ``cluster`` overrides its columns."""
    now = clock.now()
    key = new_id()
    row = Cluster.objects.create(
        **{
            "id": key,
            "name": "yard",
            "provider_ref": uuid4(),
            "datacenter_ref": uuid4(),
            "api_url": "https://k8s.example.com:6443",
            "ca_pem": "",
            "token_sealed": seal_token(key, "token"),
            "state": "ready",
            "reason": "ready",
            "state_since": now,
            "created_at": now,
            "last_positive_at": now,
            "server_version": "v1.20.2",
            **cluster,
        }
    )
    for kind in ClusterLoop.Kind.values:
        ClusterLoop.objects.create(cluster=row, kind=kind, due_at=now)
    for number in range(1, namespaces + 1):
        Namespace.objects.create(cluster=row, name=f"gpuyard-r-{number:02d}")
    group = DeviceGroup.objects.create(
        cluster=row,
        provider_ref=row.provider_ref,
        datacenter_ref=row.datacenter_ref,
        accelerator="nvidia-h100-80gb-sxm",
        vendor="nvidia",
        memory_mib=81920,
        vcpus_milli_per_gpu=8000,
        ram_mib_per_gpu=65536,
        disk_mib_per_gpu=102400,
        created_at=now,
        updated_at=now,
    )
    yard = Yard(row, group)
    for number in range(nodes):
        add_node(yard, f"node-{number}", cards)
    return yard


def add_node(yard: Yard, name: str, cards: int) -> NodeShare:
    node = Node.objects.create(
        cluster=yard.cluster, name=name, uid=name, ready=True, sellable=True, listed_at=clock.now()
    )
    share = NodeShare.objects.create(
        node=node,
        group=yard.group,
        resource_name="nvidia.com/gpu",
        slots_total=cards,
        slots_free=cards,
    )
    Slot.objects.bulk_create(Slot(share=share, number=number) for number in range(cards))
    GroupChange.objects.create(group=yard.group)
    yard.shares.append(share)
    return share


def plan(yard: Yard, gpus: int = 1, *, tenant: UUID | None = None, disk_mib: int = 1024) -> Plan:
    return facade.plan(PlacementRequest((yard.group.pk,), gpus, disk_mib, tenant or uuid4()))


def rent(
    yard: Yard,
    gpus: int = 1,
    *,
    tenant: UUID | None = None,
    order: PodOrder = ORDER,
    rental: UUID | None = None,
    given: Plan | None = None,
    wait: bool = False,
) -> InstanceView:
    """Plan and reserve, as the marketplace does. Raises NoCandidate."""
    who = tenant or uuid4()
    chosen = given or plan(yard, gpus, tenant=who)
    with transaction.atomic():
        return facade.reserve(
            plan=chosen,
            instance_id=new_id(),
            rental_ref=rental or new_id(),
            tenant_ref=who,
            order=order,
            gpus=gpus,
            disk_mib=1024,
            wait=wait,
        )


def end(view: InstanceView, reason: str = "terminated_by_user") -> None:
    with transaction.atomic():
        facade.request_end(rental_ref=view.rental_ref, reason=reason, fault=Fault.NONE)


def row_of(view: InstanceView) -> Instance:
    return Instance.objects.select_related("share__node", "namespace", "cluster").get(pk=view.id)


def states(view: InstanceView) -> list[str]:
    return [event.state.value for event in facade.instance_events(rental_ref=view.rental_ref)]


def at_time(text: str | None) -> None:
    """Set the platform's clock of this connection, e.g. "2026-11-01T10:00:00Z"; None: real."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [text or ""])


def conserved(yard: Yard) -> None:
    """What must hold of slots, holds and counters at any quiet moment."""
    for share in NodeShare.objects.filter(node__cluster=yard.cluster):
        slots = Slot.objects.filter(share=share)
        live = slots.exclude(reason="device_gone")
        assert share.slots_total == live.count()
        assert share.slots_free == slots.filter(state="free").count()
        held = set(slots.filter(state="held").values_list("pk", flat=True))
        open_holds = Hold.objects.filter(slot__share=share, to_ts__isnull=True)
        assert held == set(open_holds.values_list("slot_id", flat=True))
    for row in Instance.objects.filter(cluster=yard.cluster):
        expected = 0 if row.state == "gone" else row.gpus
        assert row.holds.filter(to_ts__isnull=True).count() == expected
        seqs = list(row.events.order_by("seq").values_list("seq", flat=True))
        assert seqs == list(range(1, row.event_seq + 1))
