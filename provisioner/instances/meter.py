"""Ready intervals: opened and closed with an instance's moves, charged window by window.

An open interval is good up to the cluster's last positive observation (or its own opening, which
is one). Closing writes down how far it is good; what was not proven by then is not charged.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Greatest, Least

from kernel.arrays import Array
from kernel.clock import ceil_second
from kernel.wake import wake_on_commit
from provisioner.contracts import Chargeable, InstanceState, ReadyView
from provisioner.contracts.interruption import ProvenSpan
from provisioner.instances.state import PROGRAM_DOWN
from provisioner.models import Instance, ReadyInterval

# An end request closes an interval before the cluster has shown that the pod was well until then;
# the answer to the deletion does, normally within a second. After this long nobody waits for it.
FINAL_AFTER = timedelta(seconds=60)
PROVEN_BY = ("cluster", "instance__share__node")


@dataclass(frozen=True)
class Closing:
    """How an open interval ends. ``final`` False: proof up to ``at`` may still come.

    ``unasked``: it ends because nobody here asked the cluster, which may have been well.
    """

    at: datetime
    good_until: datetime
    final: bool = True
    unasked: bool = False


def proven_until(interval: ReadyInterval) -> datetime:
    """How far an open interval is proven. With its cluster and its instance's node (PROVEN_BY)."""
    until = interval.cluster.last_positive_at
    if until is None:
        return interval.opened_at
    instance = interval.instance
    if instance.state == InstanceState.DEGRADED and instance.reason == PROGRAM_DOWN:
        # A pod whose program is down looks the same when its node falls silent: what proves it is
        # the news that it is down, and then each look at the nodes.
        looked = instance.share.node.ready_at
        known = instance.state_since if looked is None else max(instance.state_since, looked)
        until = min(until, known)
    return max(interval.opened_at, until)


def open_of(instance_id: UUID) -> ReadyInterval | None:
    """The open interval of an instance as it is now, with what proves it."""
    rows = ReadyInterval.objects.select_related(*PROVEN_BY)
    return rows.filter(instance_id=instance_id, closed_at__isnull=True).first()


def ready_intervals(*, rental_ref: UUID) -> list[ReadyView]:
    """A rental's proven stretches, oldest first."""
    rows = ReadyInterval.objects.filter(rental_ref=rental_ref).select_related(*PROVEN_BY)
    return [
        ReadyView(
            instance_id=row.instance_id,
            from_at=row.opened_at,
            to_at=row.closed_at,
            proven_to=row.good_until or proven_until(row),
        )
        for row in rows.order_by("opened_at", "id")
    ]


def proven_on(
    *, cluster_ids: Collection[UUID] | None, from_at: datetime, to_at: datetime
) -> list[ProvenSpan]:
    """What was proven in a time on these clusters, or on all (None), by rental and age."""
    rows = ReadyInterval.objects.filter(opened_at__lt=to_at).select_related(*PROVEN_BY)
    rows = rows.filter(Q(closed_at=None) | Q(closed_at__gt=from_at))
    if cluster_ids is not None:
        rows = rows.filter(cluster__in=cluster_ids)
    return [
        ProvenSpan(row.rental_ref, row.opened_at, row.good_until or proven_until(row))
        for row in rows.order_by("rental_ref", "opened_at")
    ]


def open_interval(
    instance: Instance, *, at: datetime, pod_uid: str, proof: dict[str, Any]
) -> ReadyInterval:
    return ReadyInterval.objects.create(
        instance=instance,
        cluster_id=instance.cluster_id,
        rental_ref=instance.rental_ref,
        gpus=instance.gpus,
        pod_uid=pod_uid,
        opened_at=at,
        proof=proof,
        charged_to=ceil_second(at),
    )


def close_interval(
    instance: Instance, *, closing: Closing, reason: str, interrupts: bool = False
) -> None:
    """Close the open interval; nothing happens when none is open.

    ``interrupts``: by a fault, which is not the renter's.
    """
    closed = ReadyInterval.objects.filter(instance=instance, closed_at__isnull=True).update(
        closed_at=Greatest(F("opened_at"), closing.at),
        good_until=Greatest(F("opened_at"), Least(closing.good_until, closing.at)),
        close_reason=reason,
        final=closing.final,
        interrupts=interrupts,
        unasked=closing.unasked,
    )
    if closed and closing.final:
        wake_on_commit("marketplace.charge")


def closing_at_last_proof(instance: Instance) -> Closing:
    """Close where the last full list still saw it well: we were blind after that."""
    interval = open_of(instance.pk)
    good = instance.state_since if interval is None else proven_until(interval)
    return Closing(at=good, good_until=good)


def confirm(instance_id: UUID, *, unchanged: bool, evidence: dict[str, Any] | None = None) -> None:
    """The answer to the deletion is in: it proves the seconds up to the request, or it does not.

    ``evidence``: what the answer showed of the pod; it is kept beside the opening proof.
    """
    for row in ReadyInterval.objects.select_for_update(no_key=True).filter(
        instance_id=instance_id, final=False, closed_at__isnull=False
    ):
        row.final = True
        if unchanged:
            row.good_until = row.closed_at
        if evidence:
            row.proof = {**row.proof, "at_end": evidence}
        row.save(update_fields=["final", "good_until", "proof"])
        wake_on_commit("marketplace.charge")


def give_up_waiting(now: datetime) -> int:
    """Intervals whose proof never came are final as they are."""
    done = ReadyInterval.objects.filter(
        final=False, closed_at__isnull=False, closed_at__lt=now - FINAL_AFTER
    ).update(final=True)
    if done:
        wake_on_commit("marketplace.charge")
    return done


# Final intervals, and open ones that are proven beyond the next full hour. Locked rows belong to
# another reader. What has no whole second left to charge is settled and does not appear.
_DUE = """
WITH due AS MATERIALIZED (
  SELECT r.id, r.rental_ref, r.charged_to AS from_at, r.final,
         least(date_trunc('second', CASE WHEN r.final THEN r.good_until
           ELSE greatest(r.opened_at, least(c.last_positive_at, CASE
             WHEN i.state = 'degraded' AND i.reason = %(down)s
             THEN greatest(i.state_since, n.ready_at) END)) END),
           date_trunc('hour', r.charged_to, 'UTC') + interval '1 hour') AS to_at
    FROM provisioner_readyinterval r JOIN provisioner_cluster c ON c.id = r.cluster_id
    JOIN provisioner_instance i ON i.id = r.instance_id
    JOIN provisioner_nodeshare s ON s.id = i.share_id JOIN provisioner_node n ON n.id = s.node_id
   WHERE NOT r.settled AND (
     r.final OR (
       r.closed_at IS NULL AND r.charged_to < date_trunc('hour', app_now(), 'UTC')
       AND c.last_positive_at >= date_trunc('hour', r.charged_to, 'UTC') + interval '1 hour'
     )
   )
   ORDER BY r.charged_to LIMIT %(limit)s FOR UPDATE OF r SKIP LOCKED
), empty AS (
  UPDATE provisioner_readyinterval r SET settled = true
    FROM due WHERE r.id = due.id AND due.final AND due.to_at <= due.from_at
)
SELECT count(*), array_agg(id)::text, array_agg(rental_ref)::text,
       array_agg(from_at)::text, array_agg(to_at)::text
  FROM due WHERE to_at > from_at
"""


def chargeable(*, limit: int) -> Chargeable:
    """Proven windows that are not charged yet, one per interval, inside one clock hour each.

    In a transaction, which keeps the intervals locked; acknowledge in the same one.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"limit": limit, "down": PROGRAM_DOWN})
        return Chargeable(*cursor.fetchone())


def ack_charged(*, interval_ids: Array, to_at: Array) -> None:
    """These intervals are charged up to these times. In the transaction that charged them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE provisioner_readyinterval r SET charged_to = given.until,"
            " settled = r.final AND given.until >= date_trunc('second', r.good_until)"
            " FROM unnest(%s::uuid[], %s::timestamptz[]) AS given(id, until)"
            " WHERE r.id = given.id AND given.until >= r.charged_to",
            [interval_ids, to_at],
        )


def is_settled(*, rental_ref: UUID) -> bool:
    """Whether nothing of this rental will become chargeable any more, unless it runs again."""
    return not ReadyInterval.objects.filter(rental_ref=rental_ref, settled=False).exists()
