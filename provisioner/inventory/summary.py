"""The maintained summary of every group, recomputed from the shares that changed. Tables only.

One set-based statement per run. Runs queue behind an advisory lock whose holder reads a fresh
snapshot after it: two at once could write an older sum over a newer one.
"""

from __future__ import annotations

from django.db import connection, transaction

_LOCK_KEY = 0x67797344  # any constant of our own
_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
_REFRESH = """
WITH changed AS (
  DELETE FROM provisioner_groupchange RETURNING group_id
), sums AS (
  SELECT g.id, c.state = 'ready' AND c.drain_requested_at IS NULL AND c.preflight_passed
      AS listed_ok,
    c.storage_domain, c.network_policy, c.relay_seen_at IS NOT NULL AS has_relay,
    coalesce(sum(s.slots_total), 0) AS total,
    coalesce(sum(s.slots_free) FILTER (WHERE s.sellable), 0) AS free,
    coalesce(max(s.slots_free) FILTER (WHERE s.sellable), 0) AS largest
  FROM (SELECT DISTINCT group_id FROM changed) d
  JOIN provisioner_devicegroup g ON g.id = d.group_id
  JOIN provisioner_cluster c ON c.id = g.cluster_id
  LEFT JOIN provisioner_nodeshare s ON s.group_id = g.id
  GROUP BY g.id, c.state, c.drain_requested_at, c.preflight_passed, c.storage_domain,
    c.network_policy, c.relay_seen_at
)
UPDATE provisioner_devicegroup g SET listed_ok = sums.listed_ok, slots_total = sums.total,
  slots_free = sums.free, largest_block = sums.largest, storage_domain = sums.storage_domain,
  network_policy = sums.network_policy, has_relay = sums.has_relay, updated_at = app_now()
FROM sums WHERE g.id = sums.id
"""


def refresh() -> int:
    """Bring the groups with changes up to date; the number of groups written."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK, [_LOCK_KEY])
        if not cursor.fetchone()[0]:
            return 0  # another run is at it; what it misses is still noted for the next
        cursor.execute(_REFRESH)
        return int(cursor.rowcount)
