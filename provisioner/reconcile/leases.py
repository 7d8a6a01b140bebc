"""Carrying the wished end of each lease to its cluster, batch by batch.

A lease is due a tenth of its length after its last renewal (instances/lease.py), or at once when
the wish moved far. Due rows are claimed per cluster with a token; before anything is sent the row
says until when the lease may hold then, because an answer that is lost hides whether it does. So
whoever waits for a lease to run out can trust the row.

Not renewed: an instance whose end is wanted, one whose cluster we do not see, and one that its host
degraded. Their leases run out.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection

from kernel import clock
from kernel.errors import PermanentError, VendorError
from provisioner.instances import lease
from provisioner.kube import manifests
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.kube.errors import Rejected, code_of, is_unhealthy
from provisioner.kube.spec import LeaseSpec
from provisioner.models import Cluster, Instance
from provisioner.reconcile import health
from provisioner.reconcile.pool import Calls
from provisioner.reconcile.steps import lease_spec

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

# A run stops claiming after this and leaves the rest to the next.
RUN_SECONDS = 10.0
# Renewals in one thread, one after the other. Larger and a slow cluster leaves more of them for
# the next claim; smaller and the database is asked more often than clusters are.
BATCH = 25
# Half of what a cluster may have: starts and stops are in more of a hurry.
PER_CLUSTER = 2
# A batch sends nothing after this, and a claim outlives its last call (client.CALL_SECONDS): a
# worker that was stopped in between sends nothing that a newer wish has overtaken.
SENDING, CLAIM = 10.0, timedelta(seconds=30)
# After a failure; a lease has at least ten tries left in it.
AGAIN = timedelta(seconds=20)


@dataclass(frozen=True)
class Order:
    """One lease to renew. ``version`` is the cluster's as far as we know it, "" if we do not."""

    id: UUID
    namespace: str
    spec: LeaseSpec
    until: datetime
    version: str


@dataclass(frozen=True)
class Sent:
    """What came of a batch: new versions by instance, and what ended it early."""

    versions: dict[UUID, str] = field(default_factory=dict)
    error: VendorError | None = None


@dataclass(frozen=True)
class Batch:
    """Claimed orders of one cluster."""

    cluster: Cluster
    token: UUID
    orders: tuple[Order, ...]
    at: datetime  # of the claim, with its monotonic time
    began: float

    def call(self, api: ClusterApi) -> Sent:
        """In a thread, without a database."""
        sent = Sent()
        for order in self.orders:
            passed = time.monotonic() - self.began
            if passed > SENDING:
                break  # the next claim has the rest
            try:
                version = renew(api, order, at=self.at + timedelta(seconds=passed))
            except VendorError as error:
                if is_unhealthy(error):
                    return Sent(sent.versions, error)
                log.warning("lease_refused", lease=order.spec.name, code=code_of(error))
            else:
                sent.versions[order.id] = version
        return sent


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Renew what is due; the number of leases renewed."""
    ends, renewed = time.monotonic() + seconds, 0
    with Calls[Batch, Sent](per_cluster=PER_CLUSTER) as calls:
        while True:
            began = _start(calls, connect) if time.monotonic() < ends else 0
            for batch, result in calls.collect(timeout=0.1):
                renewed += _finish(batch, result)
            if calls.idle() and not began:
                return renewed


def renew(api: ClusterApi, order: Order, *, at: datetime) -> str:
    """Renew one lease, or make it where there is none; its version there."""

    def body(version: str) -> dict[str, Any]:
        return manifests.lease(order.spec, at=at, until=order.until, version=version)

    try:
        if order.version:
            try:
                return api.replace_lease(order.namespace, body(order.version))
            except Rejected as error:
                if error.code != "conflict":
                    raise  # else written by somebody since: by another worker, or by its owner
        present = api.lease_version(order.namespace, order.spec.name)
        return api.replace_lease(order.namespace, body(present))
    except Rejected as error:
        if error.code != "not_found":
            raise
        # Its pod is older than leases are, or somebody deleted it.
        return api.create_lease(order.namespace, body(""))


_RENEWABLE = """
  i.lease_due_at <= app_now() AND i.desired = 'run' AND i.lease_until > app_now()
  AND (i.state IN ('creating', 'pulling', 'starting', 'ready')
       OR (i.state = 'degraded' AND NOT i.reason = ANY(%(hosts_fault)s)))
"""
_CLUSTERS_WITH = """
SELECT DISTINCT i.cluster_id FROM provisioner_instance i
JOIN provisioner_cluster c ON c.id = i.cluster_id
WHERE {renewable} AND (c.retry_at IS NULL OR c.retry_at <= app_now())
  AND NOT i.cluster_id = ANY(%(busy)s::uuid[])
"""
_CLAIM_WHERE = """
UPDATE provisioner_instance SET lease_token = %(token)s,
  lease_due_at = app_now() + make_interval(secs => %(hold)s),
  lease_held_until = greatest(lease_held_until, lease_until)
WHERE id = ANY(ARRAY(
  SELECT i.id FROM provisioner_instance i WHERE i.cluster_id = %(cluster)s AND {renewable}
  ORDER BY i.lease_due_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING id
"""
_CLUSTERS = _CLUSTERS_WITH.format(renewable=_RENEWABLE)
_CLAIM = _CLAIM_WHERE.format(renewable=_RENEWABLE)


def _start(calls: Calls[Batch, Sent], connect: Connect) -> int:
    """One batch for each cluster that has room; how many."""
    given: dict[str, Any] = {"hosts_fault": list(lease.HOSTS_FAULT), "busy": calls.busy()}
    with connection.cursor() as cursor:
        cursor.execute(_CLUSTERS, given)
        clusters = [row[0] for row in cursor.fetchall()][: calls.free()]
    batches = [claim(cluster) for cluster in clusters]
    for batch in batches:
        if batch is not None:
            _begin(batch, calls, connect)
    return sum(batch is not None for batch in batches)


def claim(cluster_id: UUID) -> Batch | None:
    """Leases of one cluster that are due, now this batch's; None when others have them all."""
    token = uuid.uuid4()
    given: dict[str, Any] = {
        "token": token,
        "cluster": cluster_id,
        "hold": CLAIM.total_seconds(),
        "limit": BATCH,
        "hosts_fault": list(lease.HOSTS_FAULT),
    }
    began, at = time.monotonic(), clock.now()
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, given)
        ids = [row[0] for row in cursor.fetchall()]
    rows = Instance.objects.filter(pk__in=ids, lease_token=token)
    orders = tuple(_order(row) for row in rows.select_related("namespace"))
    if not orders:
        return None
    return Batch(Cluster.objects.get(pk=cluster_id), token, orders, at, began)


def _order(row: Instance) -> Order:
    if row.lease_until is None:
        raise ValueError("only wished leases are claimed")
    return Order(row.pk, row.namespace.name, lease_spec(row), row.lease_until, row.lease_version)


def _begin(batch: Batch, calls: Calls[Batch, Sent], connect: Connect) -> None:
    try:
        api = connect(batch.cluster)
    except PermanentError as error:
        _finish(batch, error)
        return
    calls.submit(batch, batch.cluster.pk, lambda: batch.call(api))


# Rows in primary-key order, like everywhere. Without a version nothing is known of that lease: what
# the claim wrote stays, and it is tried again. A wish that moved away meanwhile is due at once.
_NOTE = """
WITH mine AS (
  SELECT i.id, v.until, v.version, v.pause
  FROM unnest(%(ids)s::uuid[], %(untils)s::timestamptz[], %(versions)s::text[], %(pauses)s::float[])
    AS v (id, until, version, pause)
  JOIN provisioner_instance i ON i.id = v.id WHERE i.lease_token = %(token)s
  ORDER BY i.id FOR NO KEY UPDATE OF i
)
UPDATE provisioner_instance i SET lease_token = NULL,
  lease_renewed_at = CASE WHEN m.version IS NULL THEN i.lease_renewed_at ELSE app_now() END,
  lease_held_until = CASE WHEN m.version IS NULL THEN i.lease_held_until ELSE m.until END,
  lease_version = coalesce(m.version, i.lease_version),
  lease_due_at = CASE WHEN m.version IS NOT NULL AND {apart} THEN app_now()
    ELSE app_now() + make_interval(secs => m.pause) END
FROM mine m WHERE i.id = m.id
"""


def _finish(batch: Batch, result: Sent | VendorError) -> int:
    """Write back what came of a batch whose rows are still its own; the number renewed."""
    at = clock.now()
    sent = Sent(error=result) if isinstance(result, VendorError) else result
    if sent.error is not None:
        health.failed(batch.cluster.pk, sent.error, at=at)
    elif sent.versions:
        health.answered(batch.cluster.pk, at=at)
    versions = [sent.versions.get(order.id) for order in batch.orders]
    pauses = [
        _pause(order.until - at) if version is not None else AGAIN.total_seconds()
        for order, version in zip(batch.orders, versions, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE.format(apart=lease.apart("i.lease_until", "m.until")),
            {
                "token": batch.token,
                "ids": [order.id for order in batch.orders],
                "untils": [order.until for order in batch.orders],
                "versions": versions,
                "pauses": pauses,
            },
        )
    return len(sent.versions)


def _pause(left: timedelta) -> float:
    """Seconds until the next renewal, spread so that those of one moment do not stay together."""
    spread = random.uniform(0.8, 1.0)  # noqa: S311  (spreads renewals, guards nothing)
    return lease.pause(left).total_seconds() * spread
