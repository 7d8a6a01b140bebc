"""A process that watches the pods of every ready cluster and applies what it sees at once.

It only shortens the delay: the full lists stay the truth, and whatever a watch loses they find.
Clusters are claimed by lease, so several watchers share them. Threads read the streams, one per
bound namespace, because the role allows no wider watch; one thread, the caller's, writes to the
database. Limit: a thread per tenant and cluster, some hundreds per process.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection

from kernel import clock
from kernel.errors import VendorError
from kernel.ids import BadId, parse
from provisioner.contracts import ClusterState, InstanceState
from provisioner.instances.state import TERMINAL
from provisioner.kube.api import ClusterApi
from provisioner.kube.connections import connect
from provisioner.kube.pods import PodFacts, facts
from provisioner.kube.watch import Seen, follow
from provisioner.models import Cluster, ClusterLoop, Instance, Namespace
from provisioner.reconcile import apply, observe
from provisioner.reconcile.claim import LoopClaim, claim_loops, extend_loop, release_loop

log = structlog.get_logger(__name__)

Connect = Callable[[Cluster], ClusterApi]

# A watcher that dies is replaced after this; renewed at a third of it.
LEASE = timedelta(seconds=15)
# New tenants' namespaces and new clusters are noticed within this: less than a pod needs to start.
LOOK_EVERY = 0.25
# Three periods of the full list: one that is late is not yet a way that is shut, and no more than
# this is charged of a silence.
OPEN_WAY = 3 * observe.PERIOD
# Clusters of one process; the rest is for another watcher.
MOST_CLUSTERS = 64
# Others move one instance once or twice while its pod comes up; more is for the next list.
_TRIES = 3


@dataclass
class _Watched:
    """A cluster under this process's lease, and its readers by namespace."""

    job: LoopClaim
    readers: dict[str, threading.Event] = field(default_factory=dict)


class Watcher:
    """``run`` blocks until ``stop`` is set."""

    def __init__(self, connect: Connect = connect) -> None:
        self._connect = connect
        self._events: queue.Queue[tuple[UUID, str, Seen]] = queue.Queue(maxsize=10_000)
        self._clusters: dict[UUID, _Watched] = {}
        self._renewed = 0.0

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    self._look_around()
                    self._apply_for(LOOK_EVERY)
                except (OperationalError, InterfaceError) as error:
                    # The database went away. What was seen meanwhile the full lists will find.
                    log.warning("watcher_database", problem=str(error)[:200])
                    connection.close()
                    stop.wait(1.0)
        finally:
            self._let_go()

    def _look_around(self) -> None:
        """Claim ready clusters, keep the leases, and have one reader per bound namespace."""
        room = MOST_CLUSTERS - len(self._clusters)
        for job in claim_loops(ClusterLoop.Kind.WATCH, limit=max(room, 0), hold=LEASE):
            self._clusters[job.cluster.pk] = _Watched(job)
        now = time.monotonic()
        if now - self._renewed > LEASE.total_seconds() / 3:
            self._renewed = now
            for key, watched in list(self._clusters.items()):
                if not extend_loop(watched.job, hold=LEASE):
                    self._drop(key)
        self._match_readers()

    def _match_readers(self) -> None:
        wanted: dict[UUID, set[str]] = {key: set() for key in self._clusters}
        rows = Namespace.objects.filter(
            cluster__in=list(wanted), cluster__state=ClusterState.READY, tenant_ref__isnull=False
        )
        for cluster, name in rows.values_list("cluster", "name"):
            wanted[cluster].add(name)
        for key, names in wanted.items():
            readers = self._clusters[key].readers
            for name in set(readers) - names:
                readers.pop(name).set()
            for name in names - set(readers):
                readers[name] = self._start_reader(key, name)

    def _start_reader(self, cluster_id: UUID, namespace: str) -> threading.Event:
        over = threading.Event()
        cluster = Cluster.objects.get(pk=cluster_id)
        threading.Thread(
            target=self._read,
            args=(cluster, namespace, over),
            name=f"watch-{cluster.name}-{namespace}",
            daemon=True,
        ).start()
        return over

    def _read(self, cluster: Cluster, namespace: str, over: threading.Event) -> None:
        """A thread: streams into the queue until told to end or the cluster fails. It touches no
        database; a token that was renewed reaches it when the next reader is started."""
        try:
            api = self._connect(cluster)
            for seen in follow(api, namespace):
                if over.is_set():
                    return
                self._events.put((cluster.pk, namespace, seen))
        except VendorError as error:
            log.info("watch_ended", cluster=cluster.name, namespace=namespace, why=str(error)[:200])
            over.wait(1.0)
        finally:
            self._events.put((cluster.pk, namespace, Seen(kind="ended")))

    def _apply_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                cluster, namespace, seen = self._events.get(timeout=left)
            except queue.Empty:
                return
            if seen.kind == "ended":
                self._reader_ended(cluster, namespace)
            else:
                apply_seen(cluster, seen)

    def _reader_ended(self, cluster: UUID, namespace: str) -> None:
        """The next look around starts another one, with the cluster's present token."""
        watched = self._clusters.get(cluster)
        if watched is not None:
            over = watched.readers.pop(namespace, None)
            if over is not None:
                over.set()

    def _drop(self, key: UUID) -> None:
        for over in self._clusters.pop(key).readers.values():
            over.set()

    def _let_go(self) -> None:
        for key, watched in list(self._clusters.items()):
            release_loop(watched.job, due_in=timedelta(0))
            self._drop(key)


def apply_seen(cluster_id: UUID, seen: Seen) -> None:
    """One event to its instance. Events of strangers are left to the sweep.

    A worker may move the row between our reading and our writing, most likely when the answer to
    its create comes back while the pod gets ready. What was seen is then decided anew: nothing
    would show it again until the next list.
    """
    pod: PodFacts | None = facts(seen.pod)
    if pod is None:
        return
    for _ in range(_TRIES):
        row = _row(cluster_id, pod)
        if row is None or row.state == InstanceState.RESERVED:
            return
        _apply(row, pod, seen)
        if not _overtaken(row):
            return


def _apply(row: Instance, pod: PodFacts, seen: Seen) -> None:
    at = clock.now()
    blind = seen.blind or _stalled(row, at)
    if seen.kind == "DELETED":
        if row.pod_uid == pod.uid:
            observe.deleted(row, at=at, blind=blind)
    elif row.desired == Instance.Desired.RUN and row.pod_uid in (None, pod.uid):
        apply.observed(row, pod, at=at, blind=blind)


def _stalled(row: Instance, at: datetime) -> bool:
    """Whether the stream may have stood still: then an event is older than its arrival, and what
    lay between was not watched. Full lists that came through say that the way was open."""
    last = row.cluster.last_positive_at
    return last is None or at - last > OPEN_WAY


def _overtaken(row: Instance) -> bool:
    """Whether somebody moved the instance since ``row`` was read, or moved by us."""
    return Instance.objects.filter(pk=row.pk).exclude(event_seq=row.event_seq).exists()


def _row(cluster_id: UUID, pod: PodFacts) -> Instance | None:
    try:
        key = parse("instance", pod.instance)
    except BadId:
        return None
    rows: Any = Instance.objects.filter(
        pk=key, cluster_id=cluster_id, namespace__name=pod.namespace
    )
    found: Instance | None = (
        rows.exclude(state__in=TERMINAL).select_related(*apply.RELATED, "cluster").first()
    )
    return found
