"""All cards by what they do now, and how the free ones lie: for people who plan capacity."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection

from provisioner.contracts.desk import StockView

# A card is there from when it was first listed until its node is missed or its cluster retired, as
# for what an owner's cards earned (inventory/cards.py). Those that left before count no seconds.
_CARDS: Final = """
WITH cards AS (
  SELECT g.id, g.provider_ref, g.datacenter_ref, g.accelerator, s.state, s.created_at,
         h.sellable AND g.listed_ok AS on_sale,
         least(n.missing_since, CASE WHEN c.state = 'retired' THEN c.state_since END) AS left_at
    FROM provisioner_devicegroup g
    JOIN provisioner_cluster c ON c.id = g.cluster_id
    JOIN provisioner_nodeshare h ON h.group_id = g.id
    JOIN provisioner_node n ON n.id = h.node_id
    JOIN provisioner_slot s ON s.share_id = h.id
)
SELECT id, provider_ref, datacenter_ref, accelerator,
       count(*) FILTER (WHERE left_at IS NULL AND state = 'free' AND on_sale),
       count(*) FILTER (WHERE left_at IS NULL AND state = 'free' AND NOT on_sale),
       count(*) FILTER (WHERE left_at IS NULL AND state = 'held'),
       count(*) FILTER (WHERE left_at IS NULL AND state = 'dirty'),
       count(*) FILTER (WHERE left_at IS NULL AND state = 'cordoned'),
       coalesce(sum(greatest(0, extract(epoch FROM
         least(left_at, app_now()) - greatest(created_at, %s)))), 0)::bigint
  FROM cards GROUP BY 1, 2, 3, 4 ORDER BY 4, 1
"""
_BLOCKS: Final = """
SELECT h.group_id, h.slots_free, count(*), max(h.slots_total)
  FROM provisioner_nodeshare h JOIN provisioner_devicegroup g ON g.id = h.group_id
 WHERE h.sellable AND g.listed_ok GROUP BY 1, 2
"""


def stock(*, since: datetime) -> list[StockView]:
    """Every group, by card type."""
    blocks: dict[UUID, dict[int, int]] = defaultdict(dict)
    largest: dict[UUID, int] = defaultdict(int)
    with connection.cursor() as cursor:
        cursor.execute(_BLOCKS)
        for group, free, nodes, size in cursor.fetchall():
            largest[group] = max(largest[group], size)
            if free:
                blocks[group][free] = nodes
        cursor.execute(_CARDS, [since])
        return [StockView(*(*row, largest[row[0]], blocks[row[0]])) for row in cursor.fetchall()]
