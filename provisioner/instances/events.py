"""What readers of other areas see of instances: the present row and its gapless events.

A reader's position is a column of the row it reads, written in the reader's own transaction, so
applying an event and having applied it are one fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import F

from provisioner.contracts import EventView, InstanceState, InstanceView
from provisioner.instances.move import event_view
from provisioner.models import Instance, InstanceEvent


def instance(*, rental_ref: UUID) -> InstanceView | None:
    """The latest instance of a rental, or None before the first."""
    row = (
        Instance.objects.filter(rental_ref=rental_ref)
        .select_related("share__node", "namespace")
        .order_by("-created_at", "-id")
        .first()
    )
    return None if row is None else view(row)


def instances(*, rental_ref: UUID) -> list[InstanceView]:
    """All instances of a rental, newest first."""
    rows = Instance.objects.filter(rental_ref=rental_ref)
    rows = rows.select_related("share__node", "namespace").order_by("-created_at", "-id")
    return [view(row) for row in rows]


def restarts(*, rental_ref: UUID) -> dict[UUID, int]:
    """Restarts of each instance's program as last seen, where it was seen."""
    rows = Instance.objects.filter(rental_ref=rental_ref).values_list("id", "seen")
    return {key: seen["restarts"] for key, seen in rows if isinstance(seen.get("restarts"), int)}


def view(row: Instance) -> InstanceView:
    return InstanceView(
        id=row.id,
        rental_ref=row.rental_ref,
        tenant_ref=row.tenant_ref,
        cluster_id=row.cluster_id,
        group_id=row.share.group_id,
        node_id=row.share.node_id,
        node=row.share.node.name,
        namespace=row.namespace.name,
        pod_name=row.pod_name,
        pod_uid=row.pod_uid,
        state=InstanceState(row.state),
        reason=row.reason,
        created_at=row.created_at,
        ready_at=row.ready_at,
        pod_created_at=row.pod_created_at,
    )


def instance_events(*, rental_ref: UUID) -> list[EventView]:
    """Every event of every instance of a rental, oldest first."""
    rows = InstanceEvent.objects.filter(instance__rental_ref=rental_ref)
    return [event_view(row, rental_ref) for row in rows.order_by("instance__created_at", "seq")]


def behind(*, limit: int) -> list[tuple[UUID, UUID]]:
    """(instance, rental) with events that the reader has not applied, oldest instance first."""
    rows = Instance.objects.filter(event_seq__gt=F("followed_seq")).order_by("id")
    return list(rows.values_list("id", "rental_ref")[:limit])


def any_gone(*, instance_ids: Sequence[UUID]) -> bool:
    """Whether the absence of one of these was observed."""
    return Instance.objects.filter(pk__in=instance_ids, state=InstanceState.GONE).exists()


def take_events(*, instance_id: UUID) -> list[EventView]:
    """The events not applied yet, in order. In the reader's transaction: locks the instance, so
    that two readers never apply the same event."""
    row = (
        Instance.objects.select_for_update(no_key=True)
        .only("rental_ref", "followed_seq")
        .get(pk=instance_id)
    )
    events = InstanceEvent.objects.filter(instance_id=instance_id, seq__gt=row.followed_seq)
    return [event_view(event, row.rental_ref) for event in events.order_by("seq")]


def ack_events(*, instance_id: UUID, seq: int) -> None:
    """Everything up to ``seq`` is applied. In the transaction that applied it."""
    Instance.objects.filter(pk=instance_id, followed_seq__lt=seq, event_seq__gte=seq).update(
        followed_seq=seq
    )
