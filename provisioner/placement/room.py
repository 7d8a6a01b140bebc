"""Where an order would fit if some of certain rentals gave their cards back. Reads only.

The same nodes as a plan looks at, with what the plan cannot see: cards on their way back, and who
holds the others. Which rentals may be asked is for the caller to know, and whom to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection

from provisioner.contracts import PlacementRequest, Room

# Nodes where one of the rentals has cards, or cards are on their way back: few, whatever the size
# of the group. A machine that restarts keeps its cards and ends nothing.
_ROOMS = """
WITH live AS (
  SELECT i.share_id, i.rental_ref, i.gpus, i.desired = 'end' AS ends
  FROM provisioner_instance i JOIN provisioner_nodeshare s ON s.id = i.share_id
  WHERE s.group_id = ANY(%(groups)s::uuid[]) AND i.state <> 'gone'
    AND i.cluster_id IN (
      SELECT cluster_id FROM provisioner_devicegroup WHERE id = ANY(%(groups)s::uuid[])
    )
    AND (i.desired = 'end' AND i.successor_id IS NULL
      OR i.desired = 'run' AND i.rental_ref = ANY(%(rentals)s::uuid[]))
), resting AS (
  SELECT k.share_id, count(*) AS gpus
  FROM provisioner_slot k JOIN provisioner_nodeshare s ON s.id = k.share_id
  WHERE s.group_id = ANY(%(groups)s::uuid[]) AND k.free_at IS NOT NULL
    AND k.state = 'dirty' AND NOT k.retiring
  GROUP BY k.share_id
), figures AS (
  SELECT share_id, coalesce(sum(gpus) FILTER (WHERE ends), 0) AS ending,
    coalesce(array_agg(rental_ref) FILTER (WHERE NOT ends), '{}') AS rentals,
    coalesce(array_agg(gpus) FILTER (WHERE NOT ends), '{}') AS gpus
  FROM (SELECT * FROM live UNION ALL SELECT share_id, NULL, gpus, true FROM resting) taken
  GROUP BY share_id
)
SELECT s.id, s.node_id, s.group_id, s.slots_free + f.ending, f.rentals, f.gpus
FROM figures f
JOIN provisioner_nodeshare s ON s.id = f.share_id
JOIN provisioner_devicegroup g ON g.id = s.group_id
JOIN provisioner_cluster c ON c.id = g.cluster_id
WHERE s.sellable AND c.state = 'ready' AND c.drain_requested_at IS NULL AND c.preflight_passed
  AND s.slots_total >= %(gpus)s AND g.disk_mib_per_gpu::bigint * %(gpus)s >= %(disk)s
  AND NOT s.node_id = ANY(%(excluded)s::uuid[])
  AND (%(nodes)s::uuid[] = '{}' OR s.node_id = ANY(%(nodes)s::uuid[]))
  AND (%(clusters)s::uuid[] = '{}' OR c.id = ANY(%(clusters)s::uuid[]))
  AND (NOT %(way_in)s OR c.relay_seen_at IS NOT NULL)
  AND EXISTS (
    SELECT 1 FROM provisioner_namespace n WHERE n.cluster_id = c.id AND n.usable
      AND (n.tenant_ref = %(tenant)s OR n.tenant_ref IS NULL)
  )
ORDER BY array_position(%(groups)s::uuid[], s.group_id), s.id
"""


def rooms(request: PlacementRequest, *, rentals: Sequence[UUID]) -> list[Room]:
    """Nodes that could take ``request`` once cards come back, best group first."""
    given: dict[str, Any] = {
        "groups": list(request.group_ids),
        "rentals": list(rentals),
        "gpus": request.gpus,
        "disk": request.disk_mib,
        "tenant": request.tenant_ref,
        "excluded": list(request.exclude_nodes),
        "clusters": list(request.cluster_ids),
        "nodes": list(request.node_ids),
        "way_in": request.needs_way_in,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ROOMS, given)
        rows = cursor.fetchall()
    return [
        Room(share, node, group, int(coming), tuple(zip(refs, gpus, strict=True)))
        for share, node, group, coming, refs, gpus in rows
    ]
