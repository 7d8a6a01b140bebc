"""What the product is told by a cluster: its API over a network that lies, hangs and loses.

A call goes through four moments: it leaves, it takes effect, its answer leaves, its answer
arrives. A fault may sit at each; so may the death of the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from kernel.errors import VendorError
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.kube.transport import Cut
from tests.simulation.cluster import POOL, SimCluster
from tests.simulation.pods import Json

T = TypeVar("T")

# An API server that took a request may act on it this much later, though the caller gave up.
# Less than what is left of a claim when the caller gives up, as the product assumes.
LATEST_EFFECT = timedelta(seconds=8)

BEFORE: dict[str, Callable[[], VendorError]] = {
    "refused": lambda: Unavailable("connect", "connection refused"),
    "busy": lambda: Unavailable("busy", "503"),
    "limited": lambda: Unavailable("rate_limited", "429", delay=2.0),
    "cut": lambda: Unsure("broken", "cut before the request arrived"),
    "server error": lambda: Unsure("server_error", "500"),
    "unauthorized": lambda: Rejected("unauthorized", "401"),
}
AFTER: dict[str, Callable[[], VendorError]] = {
    "timeout": lambda: Unsure("timeout", "no answer in time"),
    "answer lost": lambda: Unsure("broken", "cut before the answer arrived"),
    "not json": lambda: Unsure("not_json", "undecodable answer"),
}


@dataclass
class Weather:
    """How one cluster's network is. ``storm``: the share of calls that go wrong."""

    storm: float = 0.0
    partition: bool = False
    lies: bool = False  # empty lists with 200, conflicts that are none


class Port:
    """ClusterApi over a SimCluster. ``moment`` is called with a name at each moment of a call: the
    schedule lets time pass there, lets others act, or ends the worker."""

    def __init__(
        self,
        cluster: SimCluster,
        weather: Weather,
        rng: Random,
        moment: Callable[[str, str], None],
    ) -> None:
        self._cluster = cluster
        self._weather = weather
        self._rng = rng
        self._moment = moment

    def create_pod(self, namespace: str, body: Json) -> Json:
        return self._call(
            "create", lambda: self._cluster.create(namespace, body).shown(), late=True
        )

    def get_pod(self, namespace: str, name: str) -> Json:
        return self._call("get", lambda: self._cluster.get(namespace, name).shown())

    def delete_pod(self, namespace: str, name: str, *, uid: str | None, grace: int) -> Json:
        def effect() -> Json:
            shown = self._cluster.get(namespace, name).shown()
            self._cluster.delete(namespace, name, uid=uid, grace=grace)
            return shown

        if self._weather.lies and self._rng.random() < 0.1:
            raise Rejected("conflict", "409 Conflict: the object has been modified")
        return self._call("delete", effect, late=True)

    def list_pods(self, namespace: str) -> tuple[list[Json], str]:
        def effect() -> tuple[list[Json], str]:
            found = [pod.shown() for (ns, _), pod in self._cluster.pods.items() if ns == namespace]
            if self._weather.lies and self._rng.random() < 0.2:
                found = []
            return found, self._cluster.version

        return self._call("list", effect)

    def watch_pods(
        self, namespace: str, version: str, *, silence: float, seconds: float
    ) -> Iterator[Json]:
        raise NotImplementedError("watch.py delivers what a watch would")

    def create_secret(self, namespace: str, body: Json) -> None:
        key = (namespace, body["metadata"]["name"])
        self._call("create secret", lambda: self._cluster.secrets.add(key), late=True)

    def delete_secret(self, namespace: str, name: str) -> None:
        key = (namespace, name)
        self._call("delete secret", lambda: self._cluster.secrets.discard(key), late=True)

    def create_lease(self, namespace: str, body: Json) -> str:
        leases, now = self._cluster.leases, lambda: self._cluster.now
        return self._call("create lease", lambda: leases.create(namespace, body, now()), late=True)

    def lease_version(self, namespace: str, name: str) -> str:
        return self._call("lease", lambda: self._cluster.leases.version(namespace, name))

    def replace_lease(self, namespace: str, body: Json) -> str:
        leases, now = self._cluster.leases, lambda: self._cluster.now
        return self._call("renew lease", lambda: leases.replace(namespace, body, now()), late=True)

    def delete_lease(self, namespace: str, name: str) -> None:
        leases = self._cluster.leases
        self._call("delete lease", lambda: leases.delete(namespace, name), late=True)

    def reaper_lease(self) -> Json:
        return self._call("heartbeat", self._cluster.reaper.heartbeat)

    def pod_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int,
        limit_bytes: int,
        previous: bool,
        since: datetime | None,
        seconds: float,
    ) -> tuple[bytes, bool]:
        def effect() -> tuple[bytes, bool]:
            pod = self._cluster.get(namespace, name)
            run = pod.restarts - previous
            if run < 0:
                raise Rejected("invalid", "400 BadRequest: previous terminated container not found")
            return f"2026-03-01T00:00:00Z run {run} of {container}\n".encode(), False

        return self._call("log", effect)

    def follow_log(
        self,
        namespace: str,
        name: str,
        *,
        container: str,
        tail_lines: int | None,
        since: datetime | None,
        silence: float,
        seconds: float,
        cut: Cut,
    ) -> Iterator[bytes]:
        raise NotImplementedError("nobody reads a growing log in a schedule")

    def list_claims(self, namespace: str) -> tuple[list[Json], str]:
        """Schedules order no volumes yet: there is never one to see."""
        return self._call("claims", lambda: ([], self._cluster.version))

    def list_storage_classes(self) -> list[Json]:
        return self._call("classes", list)

    def list_nodes(self) -> list[Json]:
        return self._call("nodes", self._cluster.node_objects)

    def server_version(self) -> str:
        return self._call("version", lambda: "v1.20.2")

    def may_create_pods(self, namespace: str) -> bool:
        return self._call("may create", lambda: namespace in POOL)

    def renew_token(self, *, seconds: int) -> tuple[str, str]:
        expires = self._cluster.now + timedelta(seconds=seconds)
        return self._call("token", lambda: ("token", expires.isoformat()))

    def _call(self, verb: str, effect: Callable[[], T], *, late: bool = False) -> T:
        self._moment(verb, "leaves")
        if self._weather.partition:
            self._moment(verb, "partition")
            raise Unsure("timeout", "no answer in time")
        fault = self._fault(late=late)
        if fault in BEFORE:
            self._moment(verb, fault)
            raise BEFORE[fault]()
        if fault == "late":
            wait = timedelta(seconds=self._rng.uniform(0.5, LATEST_EFFECT.total_seconds()))
            self._cluster.after(wait, lambda: _quietly(effect))
            self._moment(verb, fault)
            raise Unsure("timeout", "no answer in time")
        answer = effect()
        self._moment(verb, "done")
        if fault in AFTER:
            self._moment(verb, fault)
            raise AFTER[fault]()
        return answer

    def _fault(self, *, late: bool) -> str:
        if self._rng.random() >= self._weather.storm:
            return ""
        return self._rng.choice([*BEFORE, *AFTER, *(["late"] * 3 if late else [])])


def _quietly(effect: Callable[[], object]) -> None:
    """A late effect whose answer nobody waits for; it may find that it came too late."""
    try:
        effect()
    except Rejected:
        return
