"""Full lists: the truth behind every charge. One per cluster and few seconds.

A successful list is one positive observation of the whole cluster, one row. In the same
transaction every instance that the list contradicts is moved, so "positive" always means: positive
for all that are still ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction

from kernel import clock
from kernel.errors import PermanentError, VendorError
from kernel.ids import public
from kernel.wake import wake_on_commit
from provisioner.contracts import InstanceState
from provisioner.instances import lease, meter
from provisioner.instances.meter import Closing
from provisioner.instances.move import move, note
from provisioner.instances.shut import SHUT_AFTER
from provisioner.instances.state import SERVING, TERMINAL, metered
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.kube.pods import PodFacts, facts
from provisioner.models import Cluster, ClusterLoop, Instance, Namespace, Observation, ReadyInterval
from provisioner.reconcile import apply, brake, decide, health
from provisioner.reconcile.claim import LoopClaim, claim_loops, release_loop
from provisioner.reconcile.pool import RUN_SECONDS, SPARE, THREADS, Calls
from provisioner.volumes import meter as disks

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

# Five times as often as the freshness needs: two lists may fail and nobody's meter stops.
PERIOD = timedelta(seconds=5)
# Without a positive observation for this long nothing is proven any more.
FRESH = timedelta(seconds=60)


@dataclass(frozen=True)
class Listing:
    """All our pods in the listed namespaces by instance label; ``sent_at`` is before the first
    request, so everything in it is at least that new."""

    pods: dict[str, PodFacts]
    namespaces: frozenset[str]
    sent_at: datetime
    took: float


def run(connect: Connect = connect, seconds: float = RUN_SECONDS) -> int:
    """List every cluster that is due; the number of lists tried."""
    expire()
    disks.sweep()
    meter.give_up_waiting(clock.now())
    lease.lapse(clock.now())
    done, ends = 0, time.monotonic() + seconds
    with Calls[LoopClaim, Listing](per_cluster=1) as calls:
        while True:
            limit = min(THREADS, calls.free()) if time.monotonic() < ends else 0
            jobs = claim_loops(ClusterLoop.Kind.OBSERVE, limit=limit, spare=SPARE)
            for job in jobs:
                _begin(job, calls, connect)
            for job, result in calls.collect(timeout=0.1):
                done += 1
                with health.unstorable(job.cluster.pk):
                    _finish(job, result)
            if calls.idle() and (not jobs or len(jobs) < limit):
                return done


def _begin(job: LoopClaim, calls: Calls[LoopClaim, Listing], connect: Connect) -> None:
    # Only bound namespaces can hold pods of ours; a cluster without tenants is listed once, to
    # know that it answers.
    pool = Namespace.objects.filter(cluster=job.cluster, usable=True)
    bound = list(pool.exclude(tenant_ref=None).values_list("name", flat=True))
    names = bound or list(pool.order_by("name").values_list("name", flat=True)[:1])
    sent_at = clock.now()
    try:
        api = connect(job.cluster)
    except PermanentError as error:
        _finish(job, error)
        return
    calls.submit(job, job.cluster.pk, lambda: full_list(api, names, sent_at))


def full_list(api: ClusterApi, namespaces: list[str], sent_at: datetime) -> Listing:
    """List the namespaces one after the other; raises on the first that fails, because half a
    list is no positive observation."""
    began = time.monotonic()
    pods: dict[str, PodFacts] = {}
    for namespace in namespaces:
        for item in api.list_pods(namespace)[0]:
            pod = facts(item)
            if pod is not None and not pod.probe:
                pods[pod.instance] = pod
    if not namespaces:
        api.server_version()
    return Listing(pods, frozenset(namespaces), sent_at, time.monotonic() - began)


def _finish(job: LoopClaim, result: Listing | VendorError) -> None:
    at = clock.now()
    if isinstance(result, VendorError):
        pause = health.failed(job.cluster.pk, result, at=at)
        release_loop(job, due_in=pause)
        return
    if result.namespaces:
        apply_list(job.cluster.pk, result, at=at)
        release_loop(job, due_in=PERIOD)
    else:
        health.answered(job.cluster.pk, at=at)
        release_loop(job, due_in=timedelta(seconds=1))  # the inventory will bring namespaces


def apply_list(cluster_id: UUID, listing: Listing, *, at: datetime) -> None:
    """Hold the list against every live instance of the cluster and note it as positive."""
    with transaction.atomic():
        cluster = Cluster.objects.select_for_update(no_key=True).get(pk=cluster_id)
        last = cluster.last_positive_at
        if last is not None and listing.sent_at <= last:
            return  # overtaken by a newer list
        if last is not None and listing.sent_at - last > FRESH:
            _lose(cluster, at=at)  # a gap this long is not bridged, whoever was blind
            disks.interrupt(cluster.pk)
        unsettled = Instance.objects.filter(pk__in=_unsettled(cluster, listing))
        rows = [
            row
            for row in unsettled.select_related(*apply.RELATED).order_by("pk")
            if row.namespace.name in listing.namespaces
        ]
        brake.judge_list(cluster.pk, [row for row in rows if _is_bad(row, listing, at)], at=at)
        for row in rows:
            _hold_against(row, listing, at=at)
        health.ready(cluster, at=listing.sent_at)
        Observation.objects.create(
            cluster=cluster,
            at=listing.sent_at,
            kind="list",
            pods=len(listing.pods),
            took_ms=int(listing.took * 1000),
        )


def _unsettled(cluster: Cluster, listing: Listing) -> list[UUID]:
    """Live instances but those that run with all their cards, can be entered, and that the list
    shows just as they were. Nearly all are, and a whole row costs ten times what is read here."""
    found = []
    alive = Instance.objects.filter(cluster=cluster).exclude(state__in=TERMINAL)
    for key, state, desired, short, uid, seen, closed in alive.values_list(
        "pk", "state", "desired", "share__short", "pod_uid", "seen", "way_in__failures"
    ):
        pod = listing.pods.get(public("instance", key))
        runs = state == InstanceState.READY and desired == Instance.Desired.RUN
        whole = not short and (closed or 0) < SHUT_AFTER
        if not (runs and whole and pod and pod.uid == uid and decide.settled(seen, pod)):
            found.append(key)
    return found


def _hold_against(row: Instance, listing: Listing, *, at: datetime) -> None:
    pod = _shown(row, listing)
    if pod is not None:
        if row.desired == Instance.Desired.RUN and row.state != InstanceState.RESERVED:
            apply.observed(row, pod, at=at, blind=True)
    elif _lacks(row, listing):
        _unseen(row, at=at)


def _is_bad(row: Instance, listing: Listing, at: datetime) -> bool:
    """Whether the list would take this instance away, or blame its host, without a brake."""
    if row.desired == Instance.Desired.END or row.state == InstanceState.RESERVED:
        return False
    known, pod = apply.known(row), _shown(row, listing)
    if pod is None:
        return known.state in SERVING and _lacks(row, listing)
    if row.pod_uid is None or decide.is_older(row.seen, pod):
        return False
    return decide.makes_bad(known, decide.present(known, pod, at))


def _shown(row: Instance, listing: Listing) -> PodFacts | None:
    """The instance's own pod in the list."""
    pod = listing.pods.get(public("instance", row.pk))
    return pod if pod is not None and row.pod_uid in (None, pod.uid) else None


def _lacks(row: Instance, listing: Listing) -> bool:
    """Whether its pod should be in the list and is not: it was created before the list began."""
    created = row.pod_created_at
    absent = _shown(row, listing) is None and row.pod_uid is not None
    return absent and created is not None and created < listing.sent_at


def _unseen(row: Instance, *, at: datetime) -> None:
    """A list that lacks a pod only makes the loop ask for it: an empty answer may be wrong. What is
    in trouble already stays as it is, so that whose trouble it was is not forgotten."""
    if row.desired == Instance.Desired.RUN and metered(InstanceState(row.state), row.reason):
        apply.carry_out(row, decide.unseen(apply.known(row)), at=at, blind=True)
    elif row.desired == Instance.Desired.END or not brake.holds(row):
        note(row, due_at=at)
        wake_on_commit("provisioner.instances")


def deleted(row: Instance, *, at: datetime, blind: bool) -> None:
    """The deletion of the instance's pod was seen: as wished, then the loop finishes it; or it was
    lost."""
    if row.desired == Instance.Desired.END:
        note(row, due_at=at)
        wake_on_commit("provisioner.instances")
    else:
        apply.carry_out(row, decide.absent(apply.known(row)), at=at, blind=blind)


def expire() -> None:
    """Clusters without a fresh positive observation: their meters stop where they were proven."""
    with transaction.atomic():
        stale = Cluster.objects.raw(
            "SELECT c.* FROM provisioner_cluster c WHERE c.last_positive_at < app_now() - %s"
            " AND EXISTS (SELECT 1 FROM provisioner_instance i WHERE i.cluster_id = c.id"
            " AND i.state IN ('ready', 'degraded')) FOR NO KEY UPDATE SKIP LOCKED",
            [FRESH],
        )
        at = clock.now()
        for cluster in stale:
            _lose(cluster, at=at)


def _lose(cluster: Cluster, *, at: datetime) -> None:
    """Every serving instance of a cluster becomes unreachable as of the last proof.

    Every attempt that fails is counted at once, and one cannot take as long as a proof is fresh: a
    silence without a failure is one in which nobody asked.
    """
    rows = Instance.objects.filter(
        cluster=cluster, state__in=SERVING - {InstanceState.UNREACHABLE}
    ).order_by("pk")
    intervals = {
        row.instance_id: row
        for row in ReadyInterval.objects.filter(
            cluster=cluster, closed_at__isnull=True
        ).select_related(*meter.PROVEN_BY)
    }
    for row in rows:
        interval = intervals.get(row.pk)
        good = at if interval is None else meter.proven_until(interval)
        move(
            row,
            to=InstanceState.UNREACHABLE,
            reason="cluster_unreachable",
            at=at,
            closing=Closing(at=good, good_until=good, unasked=not cluster.failures),
            due_at=at + apply.grace(row),
            evidence={"last_positive_at": str(cluster.last_positive_at), "cluster": cluster.reason},
        )
