"""What the clusters know and the product must agree with: pods, cards and truly ready seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from kernel.ids import BadId, parse
from provisioner.contracts import InstanceState
from tests.simulation.cluster import SimCluster
from tests.simulation.invariants import Found, Tables
from tests.simulation.pods import SimPod

# I7: no pod without a live rental for longer than this.
ORPHAN = timedelta(seconds=120)

# How much later than the truth, given, a watch of this cluster may tell of an end.
Slack = Callable[[SimCluster, datetime], timedelta]


def broken(tables: Tables, clusters: Iterable[SimCluster], *, slack: Slack) -> list[Found]:
    """After every step."""
    simulated = list(clusters)
    return [
        *_pods_without_cards(simulated, tables),
        *_two_pods(simulated),
        *_taken_away(simulated, tables),
        *_mixed_namespaces(simulated),
        *_charged_untruly(simulated, tables, slack),
    ]


def orphans(tables: Tables, clusters: Iterable[SimCluster]) -> list[Found]:
    """I7 and I8, once faults have stopped for ORPHAN: pods and ready instances match."""
    ready = {key for key, state in tables.instances.items() if state == InstanceState.READY}
    pods = {key: pod for pod in _ours(clusters) if (key := _key(pod)) is not None}
    unwanted = [pod.name for key, pod in pods.items() if key not in tables.instances]
    missing = [str(key) for key in ready if key not in pods or not pods[key].ready]
    return [
        *(("I7 a pod without a live rental ends in 120 s", name) for name in unwanted),
        *(("I8 a live rental has its pod", name) for name in missing),
    ]


def unbilled(clusters: Iterable[SimCluster], allowed: timedelta) -> list[Found]:
    """I3, the other direction, where nothing went wrong: ready seconds of ended rentals that were
    not charged, beyond ``allowed`` for each ready stretch."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.id, r.stop_ack_at, coalesce((SELECT sum(seconds) FROM billing_usageline u"
            " WHERE u.rental_ref = r.id), 0) FROM marketplace_rental r"
            " WHERE r.state = 'terminated'"
        )
        ended = {row[0]: row[1:] for row in cursor.fetchall()}
        # A machine that its renter stops or restarts costs nothing from the request on, however
        # long we take to end it.
        cursor.execute(
            "SELECT id, end_requested_at FROM provisioner_instance"
            " WHERE end_reason IN ('stopped_by_user', 'restarted_by_user')"
        )
        asked = dict(cursor.fetchall())
    found = []
    for rental, (over, charged) in ended.items():
        spans = []
        for pod in _of_rental(clusters, rental):
            stop = min(over, asked.get(_key(pod), over))
            spans += [(start, min(end or stop, stop)) for start, end in pod.proven if start < stop]
        true = sum(((end - start) for start, end in spans), timedelta(0))
        if true - timedelta(seconds=int(charged)) > allowed * len(spans):
            found.append(("I3 ready seconds are charged", f"{charged} s of {true}"))
    return found


def _ours(clusters: Iterable[SimCluster]) -> Iterator[SimPod]:
    for cluster in clusters:
        yield from (pod for pod in cluster.pods.values() if not pod.stranger)


def _key(pod: SimPod) -> UUID | None:
    try:
        return parse("instance", pod.instance)
    except BadId:
        return None


def _pods_without_cards(clusters: list[SimCluster], tables: Tables) -> list[Found]:
    """While a pod exists its cards are held, so no other pod can be given them."""
    return [
        ("I2 a pod's cards stay held while it exists", pod.name)
        for pod in _ours(clusters)
        if not pod.late and _key(pod) not in tables.instances
    ]


def _two_pods(clusters: list[SimCluster]) -> list[Found]:
    """Pods that may run, each within a live lease; one that has none yet counts as well."""
    alive = Counter(
        pod.rental
        for cluster in clusters
        for pod in _ours([cluster])
        if not pod.deleting and not pod.late and not _over(cluster, pod)
    )
    return [("I8 never two pods for one rental", name) for name, n in alive.items() if n > 1]


def _taken_away(clusters: list[SimCluster], tables: Tables) -> list[Found]:
    """Pods that are there although their instances were given up because they were not: a list
    that lacks a pod may be wrong, so one alone ends nothing."""
    return [
        ("only what is absent is given up as absent", pod.name)
        for pod in _ours(clusters)
        if pod.uid in tables.absent
    ]


def _over(cluster: SimCluster, pod: SimPod) -> bool:
    lease = cluster.leases.of(pod)
    return lease is not None and lease.over(cluster.now)


def _mixed_namespaces(clusters: list[SimCluster]) -> list[Found]:
    found = []
    for cluster in clusters:
        tenants: dict[str, set[str]] = {}
        for pod in _ours([cluster]):
            tenants.setdefault(pod.namespace, set()).add(pod.tenant)
        found += [name for name, who in tenants.items() if len(who) > 1]
    return [("I18 pods of one tenant in a namespace", name) for name in found]


def _of_rental(clusters: Iterable[SimCluster], rental: object) -> Iterator[SimPod]:
    for cluster in clusters:
        for pod in cluster.history:
            if not pod.stranger and parse("rental", pod.rental) == rental:
                yield pod


def _charged_untruly(clusters: list[SimCluster], tables: Tables, slack: Slack) -> list[Found]:
    """Charged seconds in which no pod of the rental was truly ready."""
    found = []
    spans: dict[object, list[tuple[datetime, datetime]]] = {}
    for rental, start, end in tables.usage:
        if rental not in spans:
            spans[rental] = _merged(clusters, rental, slack)
        if not any(low <= start and end <= high for low, high in spans[rental]):
            found.append(
                ("I3 charged seconds are truly ready ones", f"{start} to {end}: {spans[rental]}")
            )
    return found


def _merged(
    clusters: list[SimCluster], rental: object, slack: Slack
) -> list[tuple[datetime, datetime]]:
    """The truly ready stretches, each with its slack; those that touch are one."""
    merged: list[tuple[datetime, datetime]] = []
    found = [
        (start, (end or cluster.now) + slack(cluster, end or cluster.now))
        for cluster in clusters
        for pod in cluster.history
        if not pod.stranger and parse("rental", pod.rental) == rental
        for start, end in pod.proven
    ]
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
