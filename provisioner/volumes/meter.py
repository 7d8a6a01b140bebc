"""The meters of disks: intervals opened and closed by what was seen, charged window by window.

A disk is metered under one reference per size. What proves it is the cluster's last full list, for
data on a node also the last look that showed that node ready; every few minutes its claim is looked
at as well, and a claim found lost was there at the last such look only. That is why an hour is
charged after a look at the claim that came later than its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import F
from django.db.models.functions import Greatest, Least

from kernel.arrays import Array
from kernel.clock import ceil_second, now
from kernel.wake import wake_on_commit
from provisioner.contracts import Chargeable
from provisioner.contracts.disks import DiskView
from provisioner.models import DiskInterval, DiskMeter, Volume

S = DiskMeter.State

# As for machines: without a positive observation for this long nothing is proven any more. The
# inventory looks at nodes every twenty seconds, the lists come every five.
FRESH = timedelta(seconds=60)

# Up to when each disk is proven by its surroundings, and since when again after a gap: by the later
# of both looks. The statements below go on from here.
PROOF = """
WITH proof AS NOT MATERIALIZED (
  SELECT v.id AS volume_id, v.cluster_id, v.desired, v.state, v.seen_at,
         least(c.last_positive_at, CASE WHEN v.node_id IS NOT NULL
           THEN coalesce(n.ready_at, 'epoch') END) AS until,
         greatest(c.last_positive_at, n.ready_at) AS again
    FROM provisioner_volume v JOIN provisioner_cluster c ON c.id = v.cluster_id
    LEFT JOIN provisioner_node n ON n.id = v.node_id
)
"""
_OF = "SELECT volume_id, until FROM proof WHERE volume_id = ANY(%s::uuid[])"
_STALE = """
, ends AS (
  SELECT d.id, greatest(d.opened_at, p.until) AS until
    FROM provisioner_diskinterval d JOIN provisioner_diskmeter m ON m.ref = d.meter_id
    JOIN proof p USING (volume_id)
   WHERE d.closed_at IS NULL AND (%s::uuid IS NULL OR d.cluster_id = %s)
), stale AS (
  UPDATE provisioner_diskinterval d
     SET closed_at = e.until, good_until = e.until, close_reason = 'unreachable'
    FROM ends e WHERE d.id = e.id AND d.closed_at IS NULL AND e.until < %s
  RETURNING d.meter_id
)
UPDATE provisioner_diskmeter m SET moved = true FROM stale WHERE m.ref = stale.meter_id
"""
_AGAIN = """
, back AS (
  INSERT INTO provisioner_diskinterval
         (id, meter_id, cluster_id, opened_at, charged_to, settled)
  SELECT app_new_id(), m.ref, p.cluster_id, p.again,
         date_trunc('second', p.again + interval '0.999999 seconds'), false
    FROM provisioner_diskmeter m JOIN proof p USING (volume_id)
   WHERE m.state = 'current' AND p.desired = 'keep' AND p.until >= %s
     AND p.state IN ('available', 'attached', 'resizing')
     AND NOT EXISTS (SELECT FROM provisioner_diskinterval o WHERE o.meter_id = m.ref
                        AND (o.closed_at IS NULL OR o.closed_at >= p.again))
  ON CONFLICT DO NOTHING
  RETURNING meter_id
)
UPDATE provisioner_diskmeter m SET moved = true FROM back WHERE m.ref = back.meter_id
"""
# As for machines (instances/meter.py): closed intervals, and open ones proven beyond the next full
# hour. What has no whole second left to charge is settled and does not appear.
_DUE = """
, due AS MATERIALIZED (
  SELECT d.id, d.meter_id, d.charged_to AS from_at, d.closed_at IS NOT NULL AS final,
         least(date_trunc('second', coalesce(d.good_until, least(p.until, p.seen_at))),
           date_trunc('hour', d.charged_to, 'UTC') + interval '1 hour') AS to_at
    FROM provisioner_diskinterval d JOIN provisioner_diskmeter m ON m.ref = d.meter_id
    JOIN proof p USING (volume_id)
   WHERE NOT d.settled AND (
     d.closed_at IS NOT NULL OR (
       d.charged_to < date_trunc('hour', app_now(), 'UTC')
       AND p.until >= date_trunc('hour', d.charged_to, 'UTC') + interval '1 hour'
       AND p.seen_at >= date_trunc('hour', d.charged_to, 'UTC') + interval '1 hour'
     )
   )
   ORDER BY d.charged_to LIMIT %s FOR UPDATE OF d SKIP LOCKED
), empty AS (
  UPDATE provisioner_diskinterval d SET settled = true
    FROM due WHERE d.id = due.id AND due.final AND due.to_at <= due.from_at
)
SELECT count(*), array_agg(id)::text, array_agg(meter_id)::text,
       array_agg(from_at)::text, array_agg(to_at)::text
  FROM due WHERE to_at > from_at
"""


def set_meter(*, volume_id: UUID, ref: UUID, gib: int) -> None:
    """Meter the volume under ``ref`` once that size is there; in the wish's transaction."""
    DiskMeter.objects.create(ref=ref, volume_id=volume_id, gib=gib)


def reached(volume: Volume, *, at: datetime) -> None:
    """The size that was wished for is there: its meter is the current one and opens."""
    following = DiskMeter.objects.filter(volume=volume, state=S.NEXT).first()
    if following is None:
        return  # a free disk
    _over([volume.pk], [S.CURRENT], at=at, proven=at, reason="resized")
    following.state, following.moved = S.CURRENT, True
    following.save(update_fields=["state", "moved"])
    _open(following, at=at, cluster_id=volume.cluster_id)


def refused(volume: Volume) -> None:
    """The larger size will not come: its meter never ran."""
    DiskMeter.objects.filter(volume=volume, state=S.NEXT).update(state=S.OVER, moved=True)
    wake_on_commit("marketplace.charge")


def lost(volume: Volume, *, at: datetime) -> None:
    """The cluster says that the disk is gone: it was there at the last look that showed it."""
    seen = volume.seen_at or volume.bound_at or at
    _over([volume.pk], [S.CURRENT, S.NEXT], at=at, proven=min(seen, at), reason="lost")


def unwanted(volume_ids: Iterable[UUID], *, at: datetime) -> None:
    """The deletion was asked for: nothing after ``at`` is charged, nor before it beyond proof."""
    with connection.cursor() as cursor:
        cursor.execute(PROOF + _OF, [list(volume_ids)])
        proofs = cursor.fetchall()
    for volume_id, proof in proofs:
        proven = min(at, proof) if isinstance(proof, datetime) else None
        _over([volume_id], [S.CURRENT, S.NEXT], at=at, proven=proven, reason="delete_requested")


def sweep() -> int:
    """Close what is not proven any more where it was, open what is proven again; how many."""
    with connection.cursor() as cursor:
        since = now() - FRESH
        cursor.execute(PROOF + _STALE, [None, None, since])
        closed: int = cursor.rowcount
        cursor.execute(PROOF + _AGAIN, [since])
        opened: int = cursor.rowcount
    return closed + opened


def interrupt(cluster_id: UUID) -> None:
    """A gap too long to be bridged ends now: close what is open where the last proof left it."""
    with connection.cursor() as cursor:
        cursor.execute(PROOF + _STALE, [cluster_id, cluster_id, now()])


def _open(meter: DiskMeter, *, at: datetime, cluster_id: UUID) -> None:
    DiskInterval.objects.create(
        meter=meter, cluster_id=cluster_id, opened_at=at, charged_to=ceil_second(at)
    )
    wake_on_commit("marketplace.charge")


def _over(
    volume_ids: Iterable[UUID],
    states: Iterable[DiskMeter.State],
    *,
    at: datetime,
    proven: datetime | None,
    reason: str,
) -> None:
    """End these meters of the volumes. ``proven`` None: no further than they were opened."""
    meters = DiskMeter.objects.filter(volume__in=volume_ids, state__in=states)
    good = F("opened_at") if proven is None else Greatest(F("opened_at"), Least(proven, at))
    DiskInterval.objects.filter(meter__in=meters, closed_at__isnull=True).update(
        closed_at=Greatest(F("opened_at"), at), good_until=good, close_reason=reason
    )
    if meters.update(state=S.OVER, moved=True):
        wake_on_commit("marketplace.charge")


# --- for the reader ---------------------------------------------------------------------------


def moved(*, limit: int) -> list[UUID]:
    """References about which there is news, not locked."""
    rows = DiskMeter.objects.filter(moved=True).order_by("ref")
    return list(rows.values_list("ref", flat=True)[:limit])


def take(*, ref: UUID) -> DiskView | None:
    """In a transaction, which keeps it locked and applies it: the meter as it is now. None: no
    news, or another reader has it."""
    rows = DiskMeter.objects.select_for_update(skip_locked=True, of=("self",))
    meter = rows.filter(ref=ref, moved=True).first()
    if meter is None:
        return None
    DiskMeter.objects.filter(ref=ref).update(moved=False)
    running = DiskInterval.objects.filter(meter=meter, closed_at__isnull=True).first()
    return DiskView(
        ref=ref,
        running_since=running.opened_at if running else None,
        over=meter.state == S.OVER,
    )


def is_settled(*, ref: UUID) -> bool:
    """Whether nothing of an ended meter will become chargeable any more."""
    over = DiskMeter.objects.filter(ref=ref, state=S.OVER).exists()
    return over and not DiskInterval.objects.filter(meter=ref, settled=False).exists()


def chargeable(*, limit: int) -> Chargeable:
    """Proven windows that are not charged yet, one per interval, inside one clock hour each.

    In a transaction, which keeps the intervals locked; acknowledge in the same one.
    """
    with connection.cursor() as cursor:
        cursor.execute(PROOF + _DUE, [limit])
        return Chargeable(*cursor.fetchone())


def ack_charged(*, interval_ids: Array, to_at: Array) -> None:
    """These intervals are charged up to these times. In the transaction that charged them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE provisioner_diskinterval d SET charged_to = given.until,"
            " settled = d.closed_at IS NOT NULL"
            " AND given.until >= date_trunc('second', d.good_until)"
            " FROM unnest(%s::uuid[], %s::timestamptz[]) AS given(id, until)"
            " WHERE d.id = given.id AND given.until >= d.charged_to",
            [interval_ids, to_at],
        )
