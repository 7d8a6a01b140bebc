"""Pods with our label whose instance is over are deleted; unknown ones are only reported.

After a restore of the database, pods of rentals that we forgot still run: killing or billing them
would be guessing, so they are listed for staff. Namespaces that nobody uses any more go back to
the pool here as well, after a list has shown them empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from prometheus_client import Counter

from kernel import clock
from kernel.errors import PermanentError, VendorError
from kernel.ids import BadId, parse
from provisioner.contracts import InstanceState, VolumeState
from provisioner.kube.api import ClusterApi
from provisioner.kube.claims import ClaimFacts
from provisioner.kube.connections import connect
from provisioner.kube.errors import Rejected
from provisioner.kube.pods import PodFacts, facts
from provisioner.models import Cluster, ClusterLoop, Instance, Namespace, Probe, UnknownPod, Volume
from provisioner.reconcile import brake, health, strange_claims
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, SPARE, THREADS, Calls

log = structlog.get_logger(__name__)
DELETED = Counter("gpuyard_orphans_deleted_total", "Pods deleted because their instance is over")

Connect = Callable[[Cluster], ClusterApi]

PERIOD = timedelta(seconds=30)  # an orphan may live for 120 s: four sweeps fit
# A namespace rests this long after its last instance before another tenant gets it.
NAMESPACE_REST = timedelta(minutes=10)
# Strangers written down per cluster: more than a cluster of ours runs, so that a restore names all
# of them, and few enough that a server which invents pods fills no table.
MOST_UNKNOWN = 10_000


@dataclass(frozen=True)
class Swept:
    pods: tuple[PodFacts, ...]
    sent_at: datetime
    claims: tuple[ClaimFacts, ...] = ()


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """Sweep every cluster that is due; the number of sweeps tried."""
    done, ends = 0, time.monotonic() + seconds
    with Calls[LoopClaim, Swept](per_cluster=1) as calls:
        while True:
            limit = min(THREADS, calls.free()) if time.monotonic() < ends else 0
            jobs = claim_loops(ClusterLoop.Kind.ORPHANS, limit=limit, spare=SPARE)
            for job in jobs:
                _begin(job, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.cluster.pk):
                    _finish(job, result, connect)
            if calls.idle() and (not jobs or len(jobs) < limit):
                return done


def _begin(job: LoopClaim, calls: Calls[LoopClaim, Swept], connect: Connect) -> None:
    names = Namespace.objects.filter(cluster=job.cluster, usable=True)
    pool, sent_at = list(names.values_list("name", flat=True)), clock.now()
    try:
        api = connect(job.cluster)
    except PermanentError as error:
        _finish(job, error, connect)
        return
    calls.submit(job, job.cluster.pk, lambda: _sweep(api, pool, sent_at))


def _sweep(api: ClusterApi, pool: list[str], sent_at: datetime) -> Swept:
    found = [facts(item) for name in pool for item in api.list_pods(name)[0]]
    claims = strange_claims.collect(api, pool)
    return Swept(tuple(pod for pod in found if pod is not None), sent_at, claims)


def _finish(job: LoopClaim, result: Swept | VendorError, connect: Connect) -> None:
    at = clock.now()
    if isinstance(result, VendorError):
        release_loop(job, due_in=health.failed(job.cluster.pk, result, at=at))
        return
    orphans = _judge(job.cluster, result, at)
    if brake.may_delete(job.cluster.pk, orphans):
        _delete(connect(job.cluster), job.cluster, orphans)
    strange_claims.judge(job.cluster, result.claims, sent_at=result.sent_at, at=at)
    _give_back_namespaces(job.cluster, result, at)
    release_loop(job, due_in=PERIOD)


def _judge(cluster: Cluster, swept: Swept, at: datetime) -> list[PodFacts]:
    """The pods to delete; strangers are written down."""
    wanted: dict[UUID, PodFacts] = {}
    strangers: list[PodFacts] = []
    for pod in swept.pods:
        if pod.probe:
            continue
        try:
            wanted[parse("instance", pod.instance)] = pod
        except BadId:
            strangers.append(pod)
    rows = Instance.objects.filter(pk__in=wanted, cluster=cluster)
    states = dict(rows.values_list("pk", "state"))
    strangers += [pod for key, pod in wanted.items() if key not in states]
    if strangers:
        _write_down(cluster, strangers, at)
        log.warning("unknown_pods", cluster=str(cluster.pk), number=len(strangers))
    over = [
        pod
        for key, pod in wanted.items()
        if states.get(key) == InstanceState.GONE and not pod.deleting
    ]
    return over + _probes_left_behind(cluster, swept)


def _write_down(cluster: Cluster, strangers: Sequence[PodFacts], at: datetime) -> None:
    rows = UnknownPod.objects.filter(cluster=cluster)
    known = rows.filter(uid__in={pod.uid for pod in strangers})
    uids = set(known.values_list("uid", flat=True))
    known.update(last_seen_at=at)
    new = {pod.uid: pod for pod in strangers if pod.uid not in uids}
    room = max(0, MOST_UNKNOWN - rows.count()) if new else 0
    UnknownPod.objects.bulk_create(
        (
            UnknownPod(
                cluster=cluster,
                namespace=pod.namespace,
                name=pod.name,
                uid=pod.uid,
                label=pod.instance,
                first_seen_at=at,
                last_seen_at=at,
            )
            for pod in list(new.values())[:room]
        ),
        ignore_conflicts=True,
    )


def _probes_left_behind(cluster: Cluster, swept: Swept) -> list[PodFacts]:
    """Probes of which no row is open, those that a restored database forgot among them: they are
    nobody's work and nothing of theirs is billed."""
    found = [pod for pod in swept.pods if pod.probe and not pod.deleting]
    rows = Probe.objects.filter(cluster=cluster, pod_name__in=[pod.name for pod in found])
    open_ones = set(rows.exclude(state=Probe.State.GONE).values_list("pod_name", flat=True))
    return [pod for pod in found if pod.name not in open_ones]


def _delete(api: ClusterApi, cluster: Cluster, orphans: list[PodFacts]) -> None:
    for pod in orphans:
        try:
            api.delete_pod(pod.namespace, pod.name, uid=pod.uid, grace=0)
        except Rejected as error:
            if error.code not in ("not_found", "conflict"):
                log.warning("orphan_not_deleted", pod=pod.name, code=error.code)
                continue
        except VendorError as error:
            health.failed(cluster.pk, error, at=clock.now())
            return
        DELETED.inc()
        log.warning("orphan_deleted", cluster=str(cluster.pk), pod=pod.name, uid=pod.uid)


def _give_back_namespaces(cluster: Cluster, swept: Swept, at: datetime) -> None:
    """Unbind namespaces that this sweep saw empty and no instance or volume needs.

    The row lock keeps a reservation from using the binding while it goes: reserving takes a share
    lock on it and reads the tenant again.
    """
    used = {pod.namespace for pod in swept.pods} | {claim.namespace for claim in swept.claims}
    bound = Namespace.objects.filter(cluster=cluster, bound_at__lt=at - NAMESPACE_REST)
    for name in bound.exclude(name__in=used).values_list("pk", flat=True):
        with transaction.atomic():
            row = Namespace.objects.select_for_update(skip_locked=True).filter(pk=name).first()
            if row is None:
                continue
            instances = Instance.objects.filter(namespace=row)
            if instances.exclude(state=InstanceState.GONE).exists():
                continue
            if instances.filter(gone_at__gt=swept.sent_at - NAMESPACE_REST).exists():
                continue
            volumes = Volume.objects.filter(namespace=row)
            if volumes.exclude(state=VolumeState.DELETED).exists():
                continue
            if Probe.objects.filter(namespace=row).exclude(state=Probe.State.GONE).exists():
                continue
            if volumes.filter(deleted_at__gt=swept.sent_at - NAMESPACE_REST).exists():
                continue
            Namespace.objects.filter(pk=name).update(tenant_ref=None, bound_at=None)
