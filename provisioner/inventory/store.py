"""Writing what was collected: nodes, groups, shares and slots of one cluster. Tables only.

Only differences are written, because most runs find none. A held slot is never removed: a node
that offers fewer devices loses its free seats first, and with none left the share is marked short.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count

from kernel import clock
from provisioner.clusters.register import note_cluster_change
from provisioner.inventory.collect import Collected
from provisioner.inventory.parse import NodeFacts, ShareFacts
from provisioner.inventory.storage import StorageFacts
from provisioner.models import (
    Cluster,
    DeviceGroup,
    GroupChange,
    Namespace,
    Node,
    NodeShare,
    Slot,
)

_GONE = Slot.GONE
NOT_READY = ("node_not_ready", "The node is not ready in its cluster.")
NOT_SCHEDULABLE = ("not_schedulable", "The node is cordoned or has a taint that keeps us off.")
NO_DEVICES = ("no_devices", "The node offers no accelerator that the registry knows.")
CORDONED = ("cordoned", "You took it off sale; what runs there goes on. Uncordon it to sell it.")
MISSING = ("missing", "The node is not listed by its cluster any more, or lost its pool label.")


def store(cluster: Cluster, found: Collected, *, at: datetime) -> None:
    """Make the tables agree with what was found, in one transaction."""
    with transaction.atomic():
        _store_pool(cluster, found, at)
        _store_storage(cluster, found.storage)
        before = {node.name: node for node in Node.objects.filter(cluster=cluster)}
        known = _known(cluster)
        for facts in found.nodes:
            _store_node(cluster, facts, before.pop(facts.name, None), known, at)
        for node in before.values():
            _store_missing(node, at)
        Node.objects.filter(cluster=cluster, name__in=[f.name for f in found.nodes]).update(
            listed_at=at
        )
        ready = [facts.name for facts in found.nodes if facts.ready]
        Node.objects.filter(cluster=cluster, name__in=ready).update(ready_at=found.asked_at)


@dataclass
class _Known:
    """What the tables have of one cluster, read once for all its nodes."""

    shares: dict[UUID, dict[str, NodeShare]]  # by node, by resource
    seats: dict[UUID, Counter[str]]  # by share
    groups: dict[ShareFacts, DeviceGroup]  # by their kind of device, found or made in this run


def _known(cluster: Cluster) -> _Known:
    shares: dict[UUID, dict[str, NodeShare]] = {}
    rows = NodeShare.objects.filter(node__cluster=cluster).select_related("group")
    for share in rows:
        shares.setdefault(share.node_id, {})[share.resource_name] = share
    return _Known(shares, _seats(rows), {})


def _store_pool(cluster: Cluster, found: Collected, at: datetime) -> None:
    if cluster.server_version != found.version:
        Cluster.objects.filter(pk=cluster.pk).update(server_version=found.version)
        cluster.server_version = found.version
    known = set(Namespace.objects.filter(cluster=cluster).values_list("name", flat=True))
    new = [name for name in found.namespaces if name not in known]
    Namespace.objects.bulk_create(Namespace(cluster=cluster, name=name) for name in new)
    if new:
        note_cluster_change(cluster.pk)


def _store_storage(cluster: Cluster, found: StorageFacts) -> None:
    """Volumes that exist keep the class they were made with."""
    wanted = {
        "storage_class": found.name,
        "storage_domain": found.domain.value,
        "storage_reclaim": found.reclaim,
        "storage_waits": found.waits,
        "storage_expands": found.expands,
        "storage_reason": found.reason[:300],
    }
    if all(getattr(cluster, name) == value for name, value in wanted.items()):
        return
    moved = cluster.storage_domain != found.domain
    Cluster.objects.filter(pk=cluster.pk).update(**wanted)
    for name, value in wanted.items():
        setattr(cluster, name, value)
    if moved:
        note_cluster_change(cluster.pk)


def _store_node(
    cluster: Cluster, facts: NodeFacts, node: Node | None, known: _Known, at: datetime
) -> None:
    reason, detail = _why_unsold(facts)
    if not reason and node is not None and node.cordoned_at is not None:
        reason, detail = CORDONED
    wanted: dict[str, Any] = {
        "uid": facts.uid,
        "ready": facts.ready,
        "schedulable": facts.schedulable,
        "sellable": not reason,
        "reason": reason,
        "detail": detail,
        "cpu_milli": facts.cpu_milli,
        "memory_mib": facts.memory_mib,
        "disk_mib": facts.disk_mib,
        "missing_since": None,
    }
    if node is None:
        node = Node.objects.create(cluster=cluster, name=facts.name, listed_at=at, **wanted)
    elif any(getattr(node, key) != value for key, value in wanted.items()):
        Node.objects.filter(pk=node.pk).update(**wanted)
    shares, seats = known.shares.get(node.pk, {}), known.seats
    for share_facts in facts.shares:
        share = shares.pop(share_facts.resource, None)
        if share_facts.unsold is not None or facts.unsold is not None:
            # Not for sale: no new seats, but those that are held stay and are watched.
            if share is not None and _differs(
                share, share_facts, share.group, seats, sellable=False
            ):
                _resize(share, share_facts.healthy, sellable=False)
            continue
        group = _group(cluster, share_facts, known, at)
        if share is None:
            share = NodeShare.objects.create(
                node=node, group=group, resource_name=share_facts.resource
            )
        kept_off = share.quarantined_at is not None and _claims_the_same(share.group, group)
        sellable = not reason and not kept_off
        if _differs(share, share_facts, group, seats, sellable=sellable):
            _regroup(share, group)
            _resize(share, share_facts.healthy, sellable=sellable)
    for share in shares.values():  # the resource is not offered any more
        gone = ShareFacts(share.resource_name, 0, 0)
        if _differs(share, gone, share.group, seats, sellable=False):
            _resize(share, 0, sellable=False)


def _why_unsold(facts: NodeFacts) -> tuple[str, str]:
    if facts.unsold is not None:
        return facts.unsold
    if not facts.ready:
        return NOT_READY
    if not facts.schedulable:
        return NOT_SCHEDULABLE
    if not facts.shares:
        return NO_DEVICES
    refused = [share.unsold for share in facts.shares if share.unsold is not None]
    if len(refused) == len(facts.shares):
        return refused[0]
    # Some of it is sold; why the rest is not is no reason against the node.
    return "", " ".join(sentence for _, sentence in refused)[:500]


def _store_missing(node: Node, at: datetime) -> None:
    if node.missing_since is None:
        Node.objects.filter(pk=node.pk).update(
            missing_since=at, sellable=False, ready=False, reason=MISSING[0], detail=MISSING[1]
        )
    for share in node.shares.filter(sellable=True):
        _set_sellable(share, sellable=False)


def _group(cluster: Cluster, facts: ShareFacts, known: _Known, at: datetime) -> DeviceGroup:
    kind = replace(facts, resource="", capacity=0, healthy=0)
    if kind not in known.groups:
        known.groups[kind] = _group_of(cluster, facts, at)
    return known.groups[kind]


def _group_of(cluster: Cluster, facts: ShareFacts, at: datetime) -> DeviceGroup:
    group, _ = DeviceGroup.objects.get_or_create(
        cluster=cluster,
        accelerator=facts.accelerator,
        memory_mib=facts.memory_mib,
        driver=facts.driver,
        cuda_max=facts.toolkit_max,
        sharing_mode=facts.sharing_mode,
        verified=True,  # a labeller named the model; the check at each start proves it again
        vcpus_milli_per_gpu=facts.vcpus_milli,
        ram_mib_per_gpu=facts.ram_mib,
        disk_mib_per_gpu=facts.disk_mib,
        defaults={
            "provider_ref": cluster.provider_ref,
            "datacenter_ref": cluster.datacenter_ref,
            "vendor": facts.vendor,
            "cuda_max_x100": _sortable(facts.toolkit_max),
            "created_at": at,
            "updated_at": at,
        },
    )
    return group


def _sortable(version: str) -> int:
    """As filters compare it: a hundred per major, ten per minor version up to 9, so 12.4 is 1240.
    0 if it is no version."""
    found = re.match(r"([0-9]{1,4})(?:\.([0-9]{1,2}))?", version)
    if found is None:
        return 0
    return int(found.group(1)) * 100 + min(int(found.group(2) or 0), 9) * 10


def _seats(shares: Iterable[NodeShare]) -> dict[Any, Counter[str]]:
    """Seats of each share by state; those without a device are not counted."""
    counted: dict[Any, Counter[str]] = {}
    rows = Slot.objects.filter(share__in=[share.pk for share in shares]).exclude(reason=_GONE)
    for share, state, number in rows.values_list("share", "state").annotate(Count("id")):
        counted.setdefault(share, Counter())[state] += number
    return counted


def _differs(
    share: NodeShare,
    facts: ShareFacts,
    group: DeviceGroup,
    seats: dict[Any, Counter[str]],
    *,
    sellable: bool,
) -> bool:
    now = seats.get(share.pk, Counter())
    return (
        share.group_id != group.pk
        or share.sellable != sellable
        or sum(now.values()) != facts.healthy
        or share.slots_total != sum(now.values())
        or share.slots_free != now[Slot.State.FREE]
        or share.short != (facts.healthy < now[Slot.State.HELD])
    )


def _regroup(share: NodeShare, group: DeviceGroup) -> None:
    if share.group_id != group.pk:
        GroupChange.objects.create(group_id=share.group_id)
        changes: dict[str, Any] = {"group": group}
        if share.quarantined_at is not None and not _claims_the_same(share.group, group):
            changes |= {"quarantined_at": None, "quarantine_lifted_at": clock.now()}
        NodeShare.objects.filter(pk=share.pk).update(**changes)
        share.group = group


def _claims_the_same(before: DeviceGroup, now: DeviceGroup) -> bool:
    """Whether the labels still say what the cards were found not to be: another driver or another
    machine around them changes nothing of that."""
    return (before.accelerator, before.memory_mib) == (now.accelerator, now.memory_mib)


def _set_sellable(share: NodeShare, *, sellable: bool) -> None:
    NodeShare.objects.filter(pk=share.pk).update(sellable=sellable)
    GroupChange.objects.create(group_id=share.group_id)


def _resize(share: NodeShare, healthy: int, *, sellable: bool) -> None:
    """As many seats as the node offers devices; under the share's lock, like all counters."""
    NodeShare.objects.select_for_update().get(pk=share.pk)
    slots = list(Slot.objects.filter(share=share).order_by("number"))
    live = [slot for slot in slots if slot.reason != _GONE]
    spare = len(live) - healthy
    if spare > 0:
        free = [slot for slot in reversed(live) if slot.state == Slot.State.FREE][:spare]
        Slot.objects.filter(pk__in=[slot.pk for slot in free]).update(
            state=Slot.State.CORDONED, reason=_GONE, free_at=None
        )
    elif spare < 0:
        _add_seats(share, slots, -spare)
    states = Counter(
        Slot.objects.filter(share=share).exclude(reason=_GONE).values_list("state", flat=True)
    )
    NodeShare.objects.filter(pk=share.pk).update(
        sellable=sellable,
        slots_total=sum(states.values()),
        slots_free=states[Slot.State.FREE],
        short=healthy < states[Slot.State.HELD],
    )
    GroupChange.objects.create(group_id=share.group_id)


def _add_seats(share: NodeShare, slots: list[Slot], missing: int) -> None:
    back = [slot.pk for slot in slots if slot.reason == _GONE][:missing]
    Slot.objects.filter(pk__in=back).update(state=Slot.State.FREE, reason="", free_at=None)
    first = max((slot.number for slot in slots), default=-1) + 1
    Slot.objects.bulk_create(
        Slot(share=share, number=first + i) for i in range(missing - len(back))
    )
