"""What the watcher process would see of one cluster, with everything that happens to streams.

Events arrive late, twice and in another order. When a stream is cut the events under way are lost
and the next thing seen is a list, blindly, as kube/watch.py does it. A partition cuts it or lets it
stand still and go on: then its events are as old as the silence was long.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from provisioner.kube.watch import Seen
from provisioner.streams.watcher import OPEN_WAY, apply_seen
from tests.simulation.cluster import SimCluster
from tests.simulation.pods import Json

# A server tells within this what changed. Charges may exceed the truth by as much: a failure seen
# on an unbroken watch closes the meter at its arrival.
LATEST = timedelta(seconds=2)


class Watch:
    """Delivers one cluster's changes to the product; ``on`` False: no watcher runs."""

    def __init__(self, cluster: SimCluster, cluster_id: UUID, rng: Random) -> None:
        self._cluster = cluster
        self._id = cluster_id
        self._rng = rng
        self._under_way: list[tuple[datetime, int, Seen]] = []
        self._order = 0
        self.on = False
        self.calm = False  # deliver in order and at once
        self._stalls: list[tuple[datetime, datetime]] = []
        self._still_since: datetime | None = None
        cluster.on_event = self._happened

    def start(self) -> None:
        """A watcher begins with a list."""
        self.on = True
        self._relist()

    def stop(self) -> None:
        self.on = False
        self._under_way.clear()

    def cut(self) -> None:
        """The stream breaks: what was under way is lost, and a list follows."""
        self._still_since = None
        self._under_way.clear()
        if self.on:
            self._relist()

    def stand_still(self) -> None:
        """Nothing arrives from here, until `cut` or `go_on`."""
        self._still_since = self._cluster.now

    def go_on(self) -> None:
        """What happened meanwhile arrives now, as if the stream had never stood still."""
        if self._still_since is not None:
            self._stalls.append((self._still_since, self._cluster.now))
        self._still_since = None

    def slack(self, end: datetime) -> timedelta:
        """How much later than the truth, ``end``, a charge may end: nobody can tell a stream that
        stands still from one with nothing to say before the lists stay away."""
        slow = any(start - LATEST <= end <= over for start, over in self._stalls)
        return LATEST + OPEN_WAY if slow else LATEST

    def arrivals(self) -> list[datetime]:
        return [when for when, _, _ in self._under_way]

    def due(self, now: datetime) -> list[Seen]:
        """What arrives by ``now``, in its order of arrival."""
        ready = sorted(one for one in self._under_way if one[0] <= now)
        self._under_way = [one for one in self._under_way if one[0] > now]
        return [seen for _, _, seen in ready]

    def deliver(self, seen: Seen) -> None:
        apply_seen(self._id, seen)

    def _happened(self, kind: str, shown: Json) -> None:
        if self.on:
            self._send(Seen(kind, shown))
            if not self.calm and self._rng.random() < 0.05:
                self._send(Seen(kind, shown))

    def _relist(self) -> None:
        for pod in self._cluster.pods.values():
            self._send(Seen("ADDED", pod.shown(), blind=True))

    def _send(self, seen: Seen) -> None:
        late = not self.calm and self._rng.random() < 0.3
        delay = self._rng.uniform(0, LATEST.total_seconds()) if late else 0.0
        self._order += 1
        arrival = self._cluster.now + timedelta(seconds=delay)
        self._under_way.append((arrival, self._order, seen))
