"""Looking at what each cluster has: namespaces and nodes into tables, every twenty seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from kernel import clock
from kernel.errors import PermanentError, VendorError
from kernel.wake import wake, wake_on_commit
from provisioner.clusters import reaper
from provisioner.inventory.collect import Collected, collect
from provisioner.inventory.store import store
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.models import Cluster, ClusterLoop, Namespace
from provisioner.reconcile import health
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, SPARE, THREADS, Calls

Connect = Callable[[Cluster], ClusterApi]

# A dead card must be seen within a minute; nodes are large objects and change rarely.
PERIOD = timedelta(seconds=20)
NO_POOL = (
    "no_namespaces",
    "The server answers, but the token may not create pods in gpuyard-r-01. Apply the provider"
    " bundle.",
)


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Collect from every cluster that is due; the number of attempts."""
    done, ends = 0, time.monotonic() + seconds
    with Calls[LoopClaim, Collected](per_cluster=1) as calls:
        while True:
            limit = min(THREADS, calls.free()) if time.monotonic() < ends else 0
            jobs = claim_loops(ClusterLoop.Kind.INVENTORY, limit=limit, spare=SPARE)
            for job in jobs:
                _begin(job, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.cluster.pk):
                    _finish(job, result)
            if calls.idle() and (not jobs or len(jobs) < limit):
                return done


def _begin(job: LoopClaim, calls: Calls[LoopClaim, Collected], connect: Connect) -> None:
    names = Namespace.objects.filter(cluster=job.cluster).order_by("name")
    known, asked_at = list(names.values_list("name", flat=True)), clock.now()
    try:
        api = connect(job.cluster)
    except PermanentError as error:
        _finish(job, error)
        return
    calls.submit(job, job.cluster.pk, lambda: collect(api, known=known, asked_at=asked_at))


def _finish(job: LoopClaim, result: Collected | VendorError) -> None:
    at = clock.now()
    cluster = job.cluster
    if isinstance(result, VendorError):
        release_loop(job, due_in=health.failed(cluster.pk, result, at=at))
        return
    health.answered(cluster.pk, at=at)
    store(cluster, result, at=at)
    reaper.note(cluster, result.reaper, at=at)
    if not result.namespaces:
        health.incomplete(cluster.pk, *NO_POOL, at=at)
    elif cluster.last_positive_at is None:
        # A new cluster is on sale after its first full list: do not wait for the schedule.
        ClusterLoop.objects.filter(cluster=cluster, kind=ClusterLoop.Kind.OBSERVE).update(due_at=at)
        wake_on_commit("provisioner.observe")
    release_loop(job, due_in=PERIOD)
    wake("provisioner.summaries")
