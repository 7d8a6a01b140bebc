"""Running probes: one at a time in a cluster, one call or two per visit, whatever was left by whom.

    wanted   -> its pod is created (or is there already: names derive from the probe's number)
    running  -> looked at until it has ended; its termination message is what it has to tell
    ending   -> deleted until it is not found, and no create can land any more
    gone     -> card and namespace are given back

A visit calls outside any transaction and writes under the loop's claim. Nothing is kept in memory:
a worker that dies leaves a row, and the next visit goes on from there. No cluster's health follows
from it: that is what the loops that ask all the time are for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction

from kernel import clock
from kernel.errors import PermanentError, VendorError
from kernel.text import clean
from provisioner.clusters import probation
from provisioner.kube.api import ClusterApi
from provisioner.kube.client import CALL_SECONDS
from provisioner.kube.connections import connect
from provisioner.kube.errors import code_of
from provisioner.models import Cluster, ClusterLoop, Probe
from provisioner.preflight import measured, probing
from provisioner.reconcile import health
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, SPARE, THREADS, Calls
from provisioner.reconcile.probe_steps import Looked, step_of, take

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

IDLE = timedelta(seconds=60)
# A probe runs for seconds, and as long as it does a card is kept from renters.
LOOK = timedelta(seconds=1)
AFTER_ERROR = timedelta(seconds=15)
# No absence counts before a create of unknown outcome can have landed.
LANDS_WITHIN = timedelta(seconds=2 * CALL_SECONDS)

# Clusters from before there were probes, or registered meanwhile by an older version.
_JOIN = """
INSERT INTO provisioner_clusterloop (id, cluster_id, kind, due_at)
SELECT gen_random_uuid(), c.id, 'probes', app_now() FROM provisioner_cluster c
WHERE NOT EXISTS (
  SELECT FROM provisioner_clusterloop l WHERE l.cluster_id = c.id AND l.kind = 'probes'
)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class _Job:
    claim: LoopClaim
    probe: Probe


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """One visit to every cluster that is due; the number of probes visited."""
    done, ends = 0, time.monotonic() + seconds
    with connection.cursor() as cursor:
        cursor.execute(_JOIN)
    with Calls[_Job, Looked](per_cluster=1) as calls:
        while True:
            limit = min(THREADS, calls.free()) if time.monotonic() < ends else 0
            claims = claim_loops(ClusterLoop.Kind.PROBES, limit=limit, spare=SPARE)
            for claim in claims:
                _begin(claim, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.claim.cluster.pk):
                    _finish(job, result)
            if calls.idle() and (not claims or len(claims) < limit):
                return done


def _begin(claim: LoopClaim, calls: Calls[_Job, Looked], connect: Connect) -> None:
    probe = _present(claim)
    if probe is None:
        release_loop(claim, due_in=IDLE)
        return
    job = _Job(claim, probe)
    try:
        api = connect(claim.cluster)
    except PermanentError as error:
        _finish(job, error)
        return
    step = step_of(probe, settings)
    calls.submit(job, claim.cluster.pk, lambda: take(api, step))


def _present(claim: LoopClaim) -> Probe | None:
    """The cluster's open probe, or its next one, marked as sent where it is about to be created."""
    at = clock.now()
    with transaction.atomic():
        cluster = _locked(claim)
        if cluster is None:
            return None
        probation.renew(cluster, at=at)
        probe = probing.open_probe(cluster)
        if probe is None and settings.GPUYARD_PROBES:
            probe = probing.begin(cluster, at=at)
        if probe is not None and probe.state == Probe.State.WANTED:
            Probe.objects.filter(pk=probe.pk).update(sent_at=at)
    return probe


def _locked(claim: LoopClaim) -> Cluster | None:
    """The cluster, locked before its loops as everywhere; None when the claim is lost."""
    cluster = Cluster.objects.select_for_update(no_key=True).get(pk=claim.cluster.pk)
    loops = ClusterLoop.objects.select_for_update().filter(pk=claim.id, claim_token=claim.token)
    return cluster if loops.first() is not None else None


def _finish(job: _Job, result: Looked | VendorError) -> None:
    at, pause = clock.now(), LOOK
    with transaction.atomic():
        if _locked(job.claim) is None:
            log.warning("claim_lost", cluster=str(job.claim.cluster.pk))
            return
        probe = job.probe
        if isinstance(result, VendorError):
            pause = AFTER_ERROR
            _refused(probe, result)
        else:
            pause = _apply(probe, result)
        if probe.state in (Probe.State.WANTED, Probe.State.RUNNING) and at > probe.deadline_at:
            late = "It had not ended after three minutes: see whether the node can fetch the image."
            probing.told(probe, None, late, at=at)
    release_loop(job.claim, due_in=pause)


def _refused(probe: Probe, error: VendorError) -> None:
    """A server that refuses the pod has made none; anything else may have had its effect."""
    if probe.state == Probe.State.WANTED and isinstance(error, PermanentError):
        said = f"The cluster refused its pod ({code_of(error)}): {error}"
        probing.told(probe, None, clean(said, limit=200), at=clock.now())
        probe.state = Probe.State.ENDING


def _apply(probe: Probe, looked: Looked) -> timedelta:
    at = clock.now()
    if looked.absent:
        if probe.state == Probe.State.RUNNING:
            probing.told(probe, None, "Somebody removed its pod.", at=at)
        elif probe.sent_at is None or at > probe.sent_at + LANDS_WITHIN:
            probing.gone(probe, at=at)
            return timedelta(0)
        return LOOK
    if probe.state == Probe.State.WANTED:
        running = {"state": Probe.State.RUNNING, "pod_uid": looked.uid, "sent_at": None}
        Probe.objects.filter(pk=probe.pk).update(**running)
    if looked.ended:
        _told(probe, looked)
        probe.state = Probe.State.ENDING
        return timedelta(0)
    return LOOK


def _told(probe: Probe, looked: Looked) -> None:
    read = {
        Probe.Kind.BENCHMARK.value: measured.benchmark_of,
        Probe.Kind.NETWORK.value: measured.network_of,
    }[probe.kind]
    result = read(looked.message)
    failure = ""
    if result is None:
        failure = clean(f"It ended without a result: {looked.message or 'no word'}", limit=200)
    else:
        result["pull_seconds"] = looked.pull_seconds
    probing.told(probe, result, failure, at=clock.now())
