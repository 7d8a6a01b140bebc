"""What is known per proven stretch, divided among the cards that a rental had in it.

Every card of a stretch gets the same whole number, and what is left over, less than one each, goes
to the cards with the lowest numbers on their node: the sum over cards is the sum that came in, to
the unit. A card counts to the group that its node belongs to now.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from provisioner.contracts.cards import CardSum, Stretches

# A restart has its own stretches and its own holds, so a stretch names the holds of one instance.
# The series of days is one day longer than any range, where days are not asked for: one span.
_APPORTION = """
WITH given AS (
  SELECT * FROM unnest(%(intervals)s::uuid[], %(days)s::date[], %(gpus)s::int[],
                       %(seconds)s::bigint[], %(amounts)s::bigint[])
    AS g (interval_id, day, gpus, seconds, amount)
), divided AS (
  SELECT g.day, h.slot_id,
         CASE WHEN h.slot_id IS NULL THEN g.seconds * g.gpus ELSE g.seconds END AS seconds,
         g.amount / count(*) OVER stretch
           + (row_number() OVER seats <= g.amount %% count(*) OVER stretch)::int AS amount
    FROM given g
    LEFT JOIN provisioner_readyinterval r ON r.id = g.interval_id
    LEFT JOIN provisioner_hold h ON h.instance_id = r.instance_id
    LEFT JOIN provisioner_slot s ON s.id = h.slot_id
  WINDOW stretch AS (PARTITION BY g.interval_id, g.day),
         seats AS (PARTITION BY g.interval_id, g.day ORDER BY s.number, s.id)
), cards AS (
  SELECT s.id, s.number, s.created_at, g.id AS group_id, g.cluster_id, n.id AS node_id, n.name,
         least(n.missing_since, CASE WHEN c.state = 'retired' THEN c.state_since END) AS left_at
    FROM provisioner_devicegroup g
    JOIN provisioner_cluster c ON c.id = g.cluster_id
    JOIN provisioner_nodeshare h ON h.group_id = g.id
    JOIN provisioner_node n ON n.id = h.node_id
    JOIN provisioner_slot s ON s.share_id = h.id
   WHERE g.provider_ref = %(provider)s
), spans AS (
  SELECT CASE WHEN %(by_day)s THEN (d AT TIME ZONE 'UTC')::date END AS day,
         greatest(d, %(from)s) AS begins,
         CASE WHEN %(by_day)s THEN least(d + interval '24 hours', %(to)s) ELSE %(to)s END AS ends
    FROM generate_series(date_trunc('day', %(from)s::timestamptz, 'UTC'),
           %(to)s::timestamptz - interval '1 microsecond',
           CASE WHEN %(by_day)s THEN interval '24 hours'
                ELSE %(to)s::timestamptz - %(from)s::timestamptz + interval '24 hours' END) d
), parts AS (
  SELECT CASE WHEN %(by_day)s THEN day END AS day, slot_id, seconds, 0 AS there, amount FROM divided
  UNION ALL
  SELECT p.day, c.id, 0,
         extract(epoch FROM least(p.ends, app_now(), c.left_at) - greatest(p.begins, c.created_at)),
         0
    FROM spans p JOIN cards c
      ON c.created_at < least(p.ends, app_now()) AND (c.left_at IS NULL OR c.left_at > p.begins)
)
SELECT p.day, c.group_id,
       CASE WHEN %(by_card)s THEN c.id END, CASE WHEN %(by_card)s THEN c.cluster_id END,
       CASE WHEN %(by_card)s THEN c.node_id END, CASE WHEN %(by_card)s THEN c.name END,
       CASE WHEN %(by_card)s THEN c.number END,
       sum(p.seconds)::bigint, greatest(0, floor(sum(p.there)))::bigint, sum(p.amount)::bigint
  FROM parts p LEFT JOIN cards c ON c.id = p.slot_id
 GROUP BY 1, 2, 3, 4, 5, 6, 7
 ORDER BY 1, 6, 5, 7, 2 LIMIT %(limit)s
"""


def apportion(
    *,
    provider_ref: UUID,
    stretches: Stretches,
    from_at: datetime,
    to_at: datetime,
    by_day: bool,
    by_card: bool,
    limit: int,
) -> list[CardSum]:
    """The owner's cards in [from_at, to_at) with their parts, those without one as well."""
    given: dict[str, Any] = {
        "provider": provider_ref,
        "intervals": stretches.interval_ids,
        "days": stretches.days,
        "gpus": stretches.gpus,
        "seconds": stretches.seconds,
        "amounts": stretches.amounts,
        "from": from_at,
        "to": to_at,
        "by_day": by_day,
        "by_card": by_card,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_APPORTION, given)
        return [CardSum(*row) for row in cursor.fetchall()]
