"""What is proven of disks, for whoever compares it with what was charged. Reads only.

The same limits as :mod:`provisioner.volumes.meter` charges by: of a disk that is still there only
full hours, because a part of one is charged when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from kernel.arrays import array
from provisioner.volumes.meter import PROOF

Windows = tuple[tuple[datetime, datetime], ...]

_PROVEN = """
, stretch AS (
  SELECT d.meter_id AS ref,
         date_trunc('second', d.opened_at + interval '999999 microseconds') AS begins,
         CASE WHEN d.closed_at IS NOT NULL THEN date_trunc('second', d.good_until)
              ELSE date_trunc('hour', least(p.until, p.seen_at), 'UTC') END AS ends
    FROM provisioner_diskinterval d JOIN provisioner_diskmeter m ON m.ref = d.meter_id
    JOIN proof p USING (volume_id)
   WHERE d.meter_id = ANY(%(refs)s::uuid[])
)
SELECT w.ref, lower(w.part), upper(w.part)
  FROM (SELECT ref, unnest(range_agg(tstzrange(begins, least(ends, %(until)s)))) AS part
          FROM stretch WHERE begins < least(ends, %(until)s) GROUP BY ref) w
 ORDER BY 1, 2
"""

_REFS = """
SELECT DISTINCT meter_id FROM provisioner_diskinterval
 WHERE meter_id > %s AND (closed_at IS NULL OR closed_at > %s)
 ORDER BY meter_id LIMIT %s
"""


def proven(refs: Sequence[UUID], *, until: datetime) -> dict[UUID, Windows]:
    """Each disk's proven seconds before ``until`` as merged [from, to), oldest first. Those of
    which nothing is proven are absent. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(PROOF + _PROVEN, {"refs": array(refs), "until": until})
        found: dict[UUID, Windows] = {}
        for ref, begin, end in cursor.fetchall():
            found[ref] = (*found.get(ref, ()), (begin, end))
    return found


def proven_refs(*, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Disks with intervals that are open or were closed since then: the next ones by key."""
    with connection.cursor() as cursor:
        cursor.execute(_REFS, [after, since, limit])
        return [row[0] for row in cursor.fetchall()]
