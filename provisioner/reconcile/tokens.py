"""Renewing each cluster's token at a third of the life it was granted.

With 30 days asked for, a day of our absence locks nobody out. A cluster may grant less; what counts
is what it granted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from kernel import clock
from kernel.errors import PermanentError, VendorError
from provisioner.clusters.register import is_token, seal_token
from provisioner.contracts import ClusterMode
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import health
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, SPARE, THREADS, Calls

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

ASKED = timedelta(days=30)
# A first token of unknown age is replaced at once; a failed renewal is tried again hourly.
AGAIN = timedelta(hours=1)


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Renew what is due; the number of attempts."""
    done, ends = 0, time.monotonic() + seconds
    with Calls[LoopClaim, tuple[str, str]](per_cluster=1) as calls:
        while True:
            limit = min(THREADS, calls.free()) if time.monotonic() < ends else 0
            jobs = claim_loops(ClusterLoop.Kind.TOKENS, limit=limit, spare=SPARE)
            for job in jobs:
                _begin(job, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.cluster.pk):
                    _finish(job, result)
            if calls.idle() and (not jobs or len(jobs) < limit):
                return done


def _begin(job: LoopClaim, calls: Calls[LoopClaim, tuple[str, str]], connect: Connect) -> None:
    cluster = job.cluster
    if cluster.mode == ClusterMode.AGENT:  # whose own account's token the kubelet renews
        release_loop(job, due_in=AGAIN)
        return
    wait = (cluster.token_renew_at - clock.now()) if cluster.token_renew_at else timedelta(0)
    if wait > timedelta(0):
        release_loop(job, due_in=min(wait, AGAIN))
        return
    try:
        api = connect(cluster)
    except PermanentError as error:
        _finish(job, error)
        return
    seconds = int(ASKED.total_seconds())
    calls.submit(job, cluster.pk, lambda: api.renew_token(seconds=seconds))


def _finish(job: LoopClaim, result: tuple[str, str] | VendorError) -> None:
    at = clock.now()
    cluster = job.cluster
    if isinstance(result, VendorError):
        # The present token goes on working until it expires; whether it does, the lists tell.
        log.warning("token_not_renewed", cluster=str(cluster.pk), problem=str(result)[:200])
        release_loop(job, due_in=AGAIN)
        return
    token, expires = result[0], _time(result[1])
    if not is_token(token) or expires is None or expires <= at:
        log.warning("token_not_usable", cluster=str(cluster.pk))
        release_loop(job, due_in=AGAIN)
        return
    # Only if nobody pasted another token meanwhile.
    Cluster.objects.filter(pk=cluster.pk, token_version=cluster.token_version).update(
        token_sealed=seal_token(cluster.pk, token),
        token_version=cluster.token_version + 1,
        token_expires_at=expires,
        token_renew_at=at + (expires - at) / 3,
    )
    health.answered(cluster.pk, at=at)
    release_loop(job, due_in=AGAIN)


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
