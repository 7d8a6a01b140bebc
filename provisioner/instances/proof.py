"""What is proven of rentals, for whoever compares it with what was charged. Reads only.

The same limits as :mod:`provisioner.instances.meter` charges by, whole seconds included.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from kernel.arrays import array
from provisioner.instances.state import PROGRAM_DOWN

Windows = tuple[tuple[datetime, datetime], ...]

_PROVEN = """
SELECT w.rental_ref, lower(w.part), upper(w.part)
  FROM (SELECT p.rental_ref,
               unnest(range_agg(tstzrange(p.begins, least(p.ends, %(until)s)))) AS part
          FROM (SELECT r.rental_ref,
                       date_trunc('second', r.opened_at + interval '999999 microseconds') AS begins,
                       date_trunc('second', CASE WHEN r.closed_at IS NOT NULL THEN r.good_until
                         ELSE greatest(r.opened_at, least(c.last_positive_at,
                           CASE WHEN i.state = 'degraded' AND i.reason = %(down)s
                                THEN greatest(i.state_since, n.ready_at) END)) END) AS ends
                  FROM provisioner_readyinterval r
                  JOIN provisioner_cluster c ON c.id = r.cluster_id
                  JOIN provisioner_instance i ON i.id = r.instance_id
                  JOIN provisioner_nodeshare s ON s.id = i.share_id
                  JOIN provisioner_node n ON n.id = s.node_id
                 WHERE r.rental_ref = ANY(%(refs)s::uuid[])) p
         WHERE p.begins < least(p.ends, %(until)s)
         GROUP BY p.rental_ref) w
 ORDER BY 1, 2
"""

_REFS = """
SELECT DISTINCT rental_ref FROM provisioner_readyinterval
 WHERE rental_ref > %s AND (closed_at IS NULL OR closed_at > %s)
 ORDER BY rental_ref LIMIT %s
"""


def proven(rental_refs: Sequence[UUID], *, until: datetime) -> dict[UUID, Windows]:
    """Each rental's proven seconds before ``until`` as merged [from, to), oldest first. Rentals of
    which nothing is proven are absent. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(_PROVEN, {"refs": array(rental_refs), "until": until, "down": PROGRAM_DOWN})
        found: dict[UUID, Windows] = {}
        for ref, begin, end in cursor.fetchall():
            found[ref] = (*found.get(ref, ()), (begin, end))
    return found


def proven_refs(*, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Rentals with intervals that are open or were closed since then: the next ones by key."""
    with connection.cursor() as cursor:
        cursor.execute(_REFS, [after, since, limit])
        return [row[0] for row in cursor.fetchall()]
