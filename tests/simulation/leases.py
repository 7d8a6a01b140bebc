"""Leases of a simulated cluster, and the reaper there: the provider's own program, as it decides.

The core that decides is the one that providers run (deploy/provider/reaper.py), on the cluster's
own monotonic time; what it does around it (listing, deleting, its heartbeat) is played here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from deploy.provider import reaper
from provisioner.kube.errors import Rejected
from tests.simulation.pods import Json, SimPod

PERIOD = timedelta(seconds=reaper.PERIOD)


@dataclass(frozen=True)
class SimLease:
    """A lease as it was written last, and when that was."""

    namespace: str
    instance: str
    version: str
    seconds: float
    written: datetime

    def over(self, at: datetime) -> bool:
        """Whether it ran out, counted from when it was written: no reaper can count from less."""
        return at >= self.written + timedelta(seconds=self.seconds)


class SimLeases:
    """Every lease of a cluster by namespace and name, with resourceVersions."""

    def __init__(self, known: Iterable[tuple[tuple[str, str], SimLease]] = ()) -> None:
        self._kept = dict(known)
        self._version = max((int(lease.version) for lease in self._kept.values()), default=1000)

    def items(self) -> list[tuple[tuple[str, str], SimLease]]:
        return list(self._kept.items())

    def create(self, namespace: str, body: Json, at: datetime) -> str:
        """Its version; "" if there is one already, which stays."""
        key = (namespace, body["metadata"]["name"])
        return "" if key in self._kept else self._write(key, body, at)

    def version(self, namespace: str, name: str) -> str:
        return self._get((namespace, name)).version

    def replace(self, namespace: str, body: Json, at: datetime) -> str:
        key = (namespace, body["metadata"]["name"])
        if body["metadata"].get("resourceVersion") != self._get(key).version:
            raise Rejected("conflict", "409 Conflict: the lease was written since")
        return self._write(key, body, at)

    def delete(self, namespace: str, name: str) -> None:
        self._kept.pop((namespace, name), None)

    def of(self, pod: SimPod) -> SimLease | None:
        """The pod's lease, found as the reaper finds it."""
        for (namespace, _), lease in self._kept.items():
            if namespace == pod.namespace and lease.instance == pod.instance:
                return lease
        return None

    def _get(self, key: tuple[str, str]) -> SimLease:
        if key not in self._kept:
            raise Rejected("not_found", "404 NotFound")
        return self._kept[key]

    def _write(self, key: tuple[str, str], body: Json, at: datetime) -> str:
        self._version += 1
        self._kept[key] = SimLease(
            key[0],
            body["metadata"]["labels"]["gpuyard.io/instance"],
            str(self._version),
            float(body["spec"]["leaseDurationSeconds"]),
            at,
        )
        return str(self._version)


class SimReaper:
    """``up`` False: it does not run; started again it has forgotten what it saw."""

    def __init__(self, start: datetime, beats: int = 0) -> None:
        self.up = True
        self.beats = beats
        self._start = start
        self._core = reaper.Reaper()

    def toggle(self) -> None:
        self.up = not self.up
        self._core = reaper.Reaper()

    def look(
        self, now: datetime, namespaces: Iterable[str], leases: SimLeases, pods: Iterable[SimPod]
    ) -> list[SimPod]:
        """The pods to end now; one look at everything, with its heartbeat."""
        if not self.up:
            return []
        self.beats += 1
        present = {pod.uid: pod for pod in pods}
        ends: list[SimPod] = []
        for namespace in namespaces:
            shown = [
                reaper.Pod(pod.name, pod.uid, pod.instance, pod.deleting)
                for pod in present.values()
                if pod.namespace == namespace and not pod.stranger
            ]
            held = [
                reaper.Lease(lease.instance, lease.version, lease.seconds)
                for (space, _), lease in leases.items()
                if space == namespace
            ]
            monotonic = (now - self._start).total_seconds()
            for end in self._core.look(monotonic, namespace, held, shown):
                ends.append(present[end.pod.uid])
        return ends

    def heartbeat(self) -> Json:
        """Its own lease, as the API server has it."""
        return {
            "metadata": {"annotations": {"gpuyard.io/version": str(reaper.VERSION)}},
            "spec": {"renewTime": f"beat {self.beats}"} if self.beats else {},
        }
