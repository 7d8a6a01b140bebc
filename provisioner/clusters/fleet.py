"""An owner's machines card by card, as plain values. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery, Window

from provisioner.contracts.fleet import (
    CardView,
    MachinesPage,
    MachineView,
    Quarantined,
    Seat,
    Seats,
)
from provisioner.models import Hold, Node, NodeShare, Slot


def machines(*, cluster_id: UUID, offset: int, limit: int) -> MachinesPage:
    """A page of a cluster's nodes, by name: two statements, however many nodes and cards."""
    total = Window(Count("id"))
    nodes: QuerySet[Any] = Node.objects.filter(cluster_id=cluster_id).annotate(total=total)
    found = list(nodes.order_by("name")[offset : offset + limit])
    slots = _slots(found)
    return MachinesPage(
        tuple(_machine(node, slots[node.id]) for node in found), found[0].total if found else 0
    )


def _slots(nodes: Collection[Node]) -> dict[UUID, list[Any]]:
    """Of each node in the order of seats, each with since when it is held."""
    held = Hold.objects.filter(slot=OuterRef("pk"), to_ts=None).values("from_ts")[:1]
    rows = _seats(Slot.objects.filter(share__node__in=nodes)).annotate(held_since=Subquery(held))
    found: dict[UUID, list[Any]] = defaultdict(list)
    for slot in rows.select_related("share__group").order_by("share", "number"):
        found[slot.share.node_id].append(slot)
    return found


def _seats(slots: QuerySet[Slot]) -> QuerySet[Slot]:
    return slots.exclude(reason=Slot.GONE)


def _seat(slot: Slot, share: NodeShare, node: Node) -> Seat:
    if slot.state == Slot.State.HELD:
        return Seat.RENTED
    if share.quarantined_at is not None:
        return Seat.QUARANTINED
    if slot.state == Slot.State.DIRTY:
        return Seat.DIRTY
    if node.cordoned_at is not None:
        return Seat.CORDONED
    if slot.state == Slot.State.CORDONED:
        return Seat.MEASURED if slot.reason == Slot.PROBED else Seat.OCCUPIED
    return Seat.FREE if node.sellable and share.sellable else Seat.OFF


def _machine(node: Node, slots: list[Any]) -> MachineView:
    found = [slot.share for slot in slots if slot.share.quarantined_at is not None]
    said = next(((share.quarantine or {}).get("text", "") for share in found), "")
    return MachineView(
        id=node.id,
        name=node.name,
        ready=node.ready,
        why=said or node.detail or node.reason,
        cordoned_at=node.cordoned_at,
        quarantined_at=min((share.quarantined_at for share in found), default=None),
        cards=tuple(
            CardView(
                id=slot.id,
                number=slot.number,
                accelerator=slot.share.group.accelerator,
                seat=_seat(slot, slot.share, node),
                rented_since=slot.held_since if slot.state == Slot.State.HELD else None,
            )
            for slot in slots
        ),
    )


def seats(*, provider_ref: UUID) -> Seats:
    """All cards of an owner, counted in one statement."""
    own = _seats(Slot.objects.filter(share__node__cluster__provider_ref=provider_ref))
    free = Q(state=Slot.State.FREE, share__sellable=True, share__node__sellable=True)
    found = own.aggregate(
        total=Count("id"),
        rented=Count("id", filter=Q(state=Slot.State.HELD)),
        free=Count("id", filter=free),
    )
    return Seats(found["total"], found["rented"], found["free"])


def node_names(*, cluster_ids: Collection[UUID]) -> dict[UUID, list[tuple[UUID, str]]]:
    """(id, name) of the nodes set aside, by cluster; one query."""
    found: dict[UUID, list[tuple[UUID, str]]] = {}
    rows = Node.objects.filter(cluster__in=list(cluster_ids)).order_by("name")
    for cluster, node, name in rows.values_list("cluster", "id", "name"):
        found.setdefault(cluster, []).append((node, name))
    return found


def quarantined(*, provider_ref: UUID) -> list[Quarantined]:
    """An owner's nodes in quarantine, the longest there first."""
    shares = NodeShare.objects.filter(
        node__cluster__provider_ref=provider_ref, quarantined_at__isnull=False
    )
    each = shares.values("node__cluster", "node", "node__name")
    rows = each.annotate(since=Min("quarantined_at"))
    return [
        Quarantined(row["node__cluster"], row["node"], row["node__name"], row["since"])
        for row in rows.order_by("since", "node")
    ]
