"""Reading what the planner decides on: at most 200 nodes, by index, outside any transaction.

The planner stays pure; this module is its only reader of tables.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

from provisioner.contracts import PlacementRequest, Plan
from provisioner.placement import planner
from provisioner.placement.planner import CANDIDATES, NodeFigures

# Per wanted group (cheapest first) its tightest nodes from the partial index over shares that are
# sellable and not full. Groups whose cluster or machine shape cannot serve fall out first.
_CANDIDATES = """
SELECT s.id, s.node_id, s.group_id, c.id, s.slots_free, s.slots_total
FROM unnest(%(groups)s::uuid[]) WITH ORDINALITY AS wanted(id, rank)
JOIN provisioner_devicegroup g ON g.id = wanted.id
JOIN provisioner_cluster c ON c.id = g.cluster_id
CROSS JOIN LATERAL (
  SELECT id, node_id, group_id, slots_free, slots_total FROM provisioner_nodeshare
  WHERE group_id = g.id AND sellable AND slots_free > 0 AND slots_free >= %(gpus)s
    AND NOT node_id = ANY(%(excluded)s::uuid[])
    AND (%(nodes)s::uuid[] = '{}' OR node_id = ANY(%(nodes)s::uuid[]))
  ORDER BY slots_free LIMIT %(limit)s
) s
WHERE c.state = 'ready' AND c.drain_requested_at IS NULL AND c.preflight_passed
  AND g.disk_mib_per_gpu::bigint * %(gpus)s >= %(disk)s
  AND (%(clusters)s::uuid[] = '{}' OR c.id = ANY(%(clusters)s::uuid[]))
  AND (NOT %(storage)s OR c.storage_domain <> 'none')
  AND (NOT %(way_in)s OR c.relay_seen_at IS NOT NULL)
  AND EXISTS (
    SELECT 1 FROM provisioner_namespace n WHERE n.cluster_id = c.id AND n.usable
      AND (n.tenant_ref = %(tenant)s OR n.tenant_ref IS NULL)
  )
ORDER BY wanted.rank, s.slots_free LIMIT %(limit)s
"""

# Only read when there is no candidate: every node of the wanted groups under its first obstacle.
_REJECTIONS = """
SELECT CASE
    WHEN c.state <> 'ready' OR c.drain_requested_at IS NOT NULL OR NOT c.preflight_passed
      THEN 'cluster_not_ready'
    WHEN g.disk_mib_per_gpu::bigint * %(gpus)s < %(disk)s THEN 'disk_too_large'
    WHEN NOT EXISTS (
      SELECT 1 FROM provisioner_namespace n WHERE n.cluster_id = c.id AND n.usable
        AND (n.tenant_ref = %(tenant)s OR n.tenant_ref IS NULL)
    ) THEN 'namespaces_exhausted'
    WHEN %(clusters)s::uuid[] <> '{}' AND NOT c.id = ANY(%(clusters)s::uuid[])
      THEN 'other_cluster'
    WHEN %(storage)s AND c.storage_domain = 'none' THEN 'no_storage'
    WHEN %(way_in)s AND c.relay_seen_at IS NULL THEN 'no_way_in'
    WHEN %(nodes)s::uuid[] <> '{}' AND NOT s.node_id = ANY(%(nodes)s::uuid[]) THEN 'other_node'
    WHEN NOT s.sellable THEN 'node_unavailable'
    WHEN s.slots_free < %(gpus)s THEN 'too_few_free'
    ELSE 'excluded'
  END AS obstacle, count(*)
FROM provisioner_nodeshare s
JOIN provisioner_devicegroup g ON g.id = s.group_id
JOIN provisioner_cluster c ON c.id = g.cluster_id
WHERE s.group_id = ANY(%(groups)s::uuid[])
GROUP BY obstacle
"""


def plan(request: PlacementRequest) -> Plan:
    """Candidates for ``request``, best first; with none, the reasons and numbers of nodes."""
    given: dict[str, Any] = {
        "groups": list(request.group_ids),
        "gpus": request.gpus,
        "disk": request.disk_mib,
        "tenant": request.tenant_ref,
        "excluded": list(request.exclude_nodes),
        "clusters": list(request.cluster_ids),
        "nodes": list(request.node_ids),
        "storage": request.needs_storage,
        "way_in": request.needs_way_in,
        "limit": CANDIDATES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, given)
        figures = [NodeFigures(*row) for row in cursor.fetchall()]
        rejections: dict[str, int] = {}
        if not figures:
            cursor.execute(_REJECTIONS, given)
            rejections = dict(cursor.fetchall())
    return planner.plan(request, figures, rejections)
