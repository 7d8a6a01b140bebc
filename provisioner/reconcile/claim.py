"""Claiming rows: who works at what, with a fence token and an expiry.

A worker that dies leaves its claim to expire; a worker that was too slow finds that its token is
not there any more and writes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection

from kernel.clock import AppNow
from provisioner.models import Cluster, ClusterLoop, Instance
from provisioner.reconcile.apply import RELATED

log = structlog.get_logger(__name__)

# Longer than any call, because a claim that expires during one lets a second worker make the same
# call. Much longer and a killed worker's instances stand still. A step of many calls at a cluster
# that takes seconds for each (a pod, its lease and its secrets go one after the other) is longer:
# whoever works at it extends the claim, or its result would be refused, and the same work begun
# anew, for as long as the cluster is slow.
INSTANCE_CLAIM = timedelta(seconds=20)
# Longer than a full list with all pages and its transaction.
LOOP_CLAIM = timedelta(seconds=40)

# A cluster whose calls fail is left alone until its retry time: the breaker. Instances of clusters
# that already have their share of this worker's threads wait for the next round. An array, here and
# wherever rows are claimed: the rows behind IN (...) may be chosen anew for every row of the table,
# and each time that skips what was locked before it, until more is claimed than the limit says.
_CLAIM = """
UPDATE provisioner_instance SET claim_token = %(token)s, worked_at = app_now(),
  claim_until = app_now() + make_interval(secs => %(hold)s)
WHERE id = ANY(ARRAY(
  SELECT i.id FROM provisioner_instance i JOIN provisioner_cluster c ON c.id = i.cluster_id
  WHERE i.due_at <= app_now() AND (i.claim_until IS NULL OR i.claim_until < app_now())
    AND (c.retry_at IS NULL OR c.retry_at <= app_now())
    AND NOT i.cluster_id = ANY(%(busy)s::uuid[])
  ORDER BY i.due_at LIMIT %(limit)s FOR UPDATE OF i SKIP LOCKED
))
"""


def claim_instances(*, limit: int, busy: Sequence[UUID]) -> list[Instance]:
    """Instances that are due, now ours until their ``claim_until``; oldest due first."""
    token = uuid.uuid4()
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM,
            {
                "token": token,
                "hold": INSTANCE_CLAIM.total_seconds(),
                "busy": list(busy),
                "limit": limit,
            },
        )
        if not cursor.rowcount:
            return []
    rows = Instance.objects.filter(claim_token=token).select_related(*RELATED, "cluster")
    return list(rows.order_by("due_at"))


def extend_instances(tokens: Sequence[UUID]) -> None:
    """Keep what is still ours of these claims; one that expired and was taken stays lost. When a
    create may take effect was fixed by the first end, which does not move."""
    Instance.objects.filter(claim_token__in=tokens).update(claim_until=AppNow() + INSTANCE_CLAIM)


# A wish that changed while we worked has set its own time, which must win.
_RELEASE = """
UPDATE provisioner_instance SET claim_token = NULL, claim_until = NULL,
  attempts = %(attempts)s,
  due_at = CASE WHEN generation = %(generation)s THEN %(due)s ELSE due_at END
WHERE id = %(id)s AND claim_token = %(token)s
"""


def release_instance(
    row: Instance, *, token: UUID, due_at: datetime | None, attempts: int = 0
) -> None:
    """Give a claim back and say when to look again; nothing happens if it is not ours any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            _RELEASE,
            {
                "id": row.pk,
                "token": token,
                "due": due_at,
                "attempts": attempts,
                "generation": row.generation,
            },
        )
        if not cursor.rowcount:
            # Normal after a pause of this process; often, it says that claims are too short.
            log.warning("claim_lost", instance=str(row.pk))


@dataclass(frozen=True)
class LoopClaim:
    """One cluster's job of one kind, ours until the claim expires."""

    id: UUID
    token: UUID
    cluster: Cluster
    due_at: datetime  # when it was due; another time by now is a wish that came meanwhile


_CLAIM_LOOPS = """
UPDATE provisioner_clusterloop SET claim_token = %(token)s,
  claim_until = app_now() + make_interval(secs => %(hold)s)
WHERE id = ANY(ARRAY(
  SELECT l.id FROM provisioner_clusterloop l JOIN provisioner_cluster c ON c.id = l.cluster_id
  WHERE l.kind = %(kind)s AND l.due_at <= app_now()
    AND (l.claim_until IS NULL OR l.claim_until < app_now())
    AND (c.retry_at IS NULL OR c.retry_at <= app_now()) AND (c.failures > 0) = %(troubled)s
  ORDER BY l.due_at LIMIT %(limit)s FOR UPDATE OF l SKIP LOCKED
))
"""


def claim_loops(
    kind: str, *, limit: int, hold: timedelta = LOOP_CLAIM, spare: int = 0
) -> list[LoopClaim]:
    """Clusters whose job of this kind is due and may be called. Those that failed last time come
    after the others and only while more than ``spare`` threads are free: however many hang, there
    are threads for which a cluster that answers need not wait."""
    token = uuid.uuid4()
    given: dict[str, Any] = {"token": token, "hold": hold.total_seconds(), "kind": kind}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_LOOPS, {**given, "troubled": False, "limit": limit})
        found = cursor.rowcount
        room = min(limit - found, limit - spare)
        if room > 0:
            cursor.execute(_CLAIM_LOOPS, {**given, "troubled": True, "limit": room})
            found += cursor.rowcount
    if not found:
        return []
    rows = ClusterLoop.objects.filter(claim_token=token).select_related("cluster")
    return [LoopClaim(row.pk, token, row.cluster, row.due_at) for row in rows]


def release_loop(job: LoopClaim, *, due_in: timedelta) -> bool:
    """Give the job back; due again after ``due_in``, or when somebody wished meanwhile. False if it
    was not ours any more."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE provisioner_clusterloop SET claim_token = NULL, claim_until = NULL,"
            " due_at = CASE WHEN due_at = %s THEN app_now() + make_interval(secs => %s)"
            " ELSE due_at END WHERE id = %s AND claim_token = %s",
            [job.due_at, due_in.total_seconds(), job.id, job.token],
        )
        return bool(cursor.rowcount)


def extend_loop(job: LoopClaim, *, hold: timedelta) -> bool:
    """Keep a long job (a watch); False if it was lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE provisioner_clusterloop SET claim_until = app_now() + make_interval(secs => %s)"
            " WHERE id = %s AND claim_token = %s",
            [hold.total_seconds(), job.id, job.token],
        )
        return bool(cursor.rowcount)
