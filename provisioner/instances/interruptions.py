"""Interruptions: what lies between a ready interval that a fault closed and the next proof.

They are read off the intervals, never measured beside them, so an interruption begins to the
second where charging ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from provisioner.contracts.interruption import Interruption
from provisioner.instances.reasons import NOT_SEEN, REASONS
from provisioner.models import ReadyInterval

# Kubernetes calls a node ready for this long after its last sign of life (the default of
# node-monitor-grace-period): what a node's loss closes was broken off by so much earlier.
NODE_SILENCE = timedelta(seconds=40)
_BY_NODE = frozenset({"node_not_ready", "host_lost"})

# The next interval of the same rental, and whether it proves the same container: then the machine
# went on all the while. That a list lacked a pod is no cause: what the look at it showed is.
_OPEN = """
SELECT r.id, r.rental_ref, r.opened_at, r.closed_at,
       CASE WHEN r.close_reason = %s THEN coalesce(e.reason, r.close_reason)
            ELSE r.close_reason END,
       r.unasked, n.opened_at,
       coalesce(n.instance_id = r.instance_id AND n.pod_uid = r.pod_uid
                AND n.proof ->> 'container' = r.proof ->> 'container', false)
  FROM provisioner_readyinterval r
  LEFT JOIN LATERAL (
    SELECT * FROM provisioner_readyinterval x
     WHERE x.rental_ref = r.rental_ref AND x.opened_at >= r.closed_at AND x.id <> r.id
     ORDER BY x.opened_at LIMIT 1
  ) n ON true
  LEFT JOIN LATERAL (
    SELECT reason FROM provisioner_instanceevent x
     WHERE x.instance_id = r.instance_id AND x.at >= r.closed_at AND x.reason <> r.close_reason
     ORDER BY x.seq LIMIT 1
  ) e ON r.close_reason = %s
 WHERE r.interrupts AND r.final
 ORDER BY r.closed_at LIMIT %s
"""


def interruptions(*, limit: int) -> list[Interruption]:
    """Those that are not over for the books, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [NOT_SEEN, NOT_SEEN, limit])
        return [_view(row) for row in cursor.fetchall()]


def interruptions_over(*, interval_ids: Sequence[UUID]) -> None:
    """They are accounted for and do not appear again."""
    ReadyInterval.objects.filter(pk__in=interval_ids).update(interrupts=False)


def _view(row: tuple[Any, ...]) -> Interruption:
    interval_id, rental_ref, opened_at, closed_at, reason, unasked, resumed_at, same = row
    silent = NODE_SILENCE if reason in _BY_NODE else timedelta(0)
    return Interruption(
        interval_id=interval_id,
        rental_ref=rental_ref,
        from_at=max(opened_at, closed_at - silent),
        proven_to=closed_at,
        to_at=resumed_at,
        reason=reason,
        fault=REASONS[reason].fault,
        unasked=unasked,
        went_on=same,
    )
