"""The reaper: ends rental pods whose lease ran out while gpuyard could not be reached.

It runs in your cluster, belongs to you, and needs nothing but Python. Every ten seconds it lists,
in the rental namespaces only, gpuyard's pods and their leases. It deletes

- a pod whose lease was not renewed for the time that the lease itself states, and
- a pod that had no lease for ten minutes.

It does nothing else: it cannot create or change a pod, read a secret or see another namespace.

Time: a lease counts from the moment at which this program saw its last change, on this machine's
monotonic clock. Clocks of different machines are never compared, so one that is set back or
forward ends no pod. When the reaper itself is started again it counts every lease from its first
sight: a pod may then live longer than its lease, at most by one length of it, and never shorter.

What it did is in its log. That it works is in the Lease gpuyard-reaper in gpuyard-system, which it
renews after each complete look.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

VERSION = 1

PERIOD = 10.0  # seconds between looks: with the grace, a pod outlives its lease by under a minute
NO_LEASE = 600.0  # a pod without any lease; gpuyard makes the lease first, so this is a leftover
GRACE = 30  # seconds a program has between its SIGTERM and its end
CALL = 10.0  # seconds for one answer of the API server

OURS = "app.kubernetes.io%2Fmanaged-by%3Dgpuyard"
INSTANCE = "gpuyard.io/instance"
POOL = "gpuyard-r-{:02d}"
HOME = "gpuyard-system"
BEAT = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/gpuyard-reaper"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


# --- Deciding: no clock, no network -----------------------------------------------------------


@dataclass(frozen=True)
class Lease:
    instance: str
    version: str  # changes with every write to the lease, and with nothing else
    seconds: float


@dataclass(frozen=True)
class Pod:
    name: str
    uid: str
    instance: str
    leaving: bool  # its deletion was asked already


@dataclass(frozen=True)
class End:
    namespace: str
    pod: Pod
    why: str


class Reaper:
    """What was seen so far, and what follows from it. ``now`` is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str], tuple[str, float]] = {}  # lease -> (version, its end)
        self._bare: dict[tuple[str, str], float] = {}  # pod without lease -> first seen so

    def look(
        self, now: float, namespace: str, leases: Iterable[Lease], pods: Iterable[Pod]
    ) -> list[End]:
        """The pods of one namespace to end now, from complete lists of it."""
        ends = self._count(now, namespace, leases)
        over: list[End] = []
        bare: dict[tuple[str, str], float] = {}
        for pod in pods:
            if pod.leaving:
                continue
            end = ends.get((namespace, pod.instance))
            if end is None:
                key = (namespace, pod.uid)
                bare[key] = self._bare.get(key, now)
                if now - bare[key] >= NO_LEASE:
                    over.append(End(namespace, pod, "it has had no lease for ten minutes"))
            elif now >= end[1]:
                over.append(End(namespace, pod, "its lease ran out"))
        self._bare = {k: v for k, v in self._bare.items() if k[0] != namespace} | bare
        return over

    def _count(
        self, now: float, namespace: str, leases: Iterable[Lease]
    ) -> dict[tuple[str, str], tuple[str, float]]:
        """When each lease of the namespace ends: a changed one begins anew."""
        ends: dict[tuple[str, str], tuple[str, float]] = {}
        for lease in leases:
            if lease.seconds <= 0:
                continue  # not one of gpuyard's: as if there were none
            key = (namespace, lease.instance)
            before = self._ends.get(key)
            same = before is not None and before[0] == lease.version
            ends[key] = before if before and same else (lease.version, now + lease.seconds)
        self._ends = {k: v for k, v in self._ends.items() if k[0] != namespace} | ends
        return ends


# --- Talking to the API server ----------------------------------------------------------------


class Refused(Exception):
    """The server answered, and not with success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Api:
    """Four kinds of call: list, delete, read, replace. The token is read anew for each, because
    the kubelet replaces it."""

    def __init__(self, host: str, port: int, ca: str, token_file: Path) -> None:
        self._token_file = token_file
        tls = ssl.create_default_context(cafile=ca)
        self._connection = http.client.HTTPSConnection(host, port, timeout=CALL, context=tls)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Raises Refused, OSError, http.client.HTTPException or ValueError (no JSON)."""
        headers = {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            text = answer.read().decode()
        except BaseException:
            self.close()  # what is left of it must not meet the next call
            raise
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, text)
        decoded: dict[str, Any] = json.loads(text)
        return decoded

    def close(self) -> None:
        """The next call connects anew."""
        self._connection.close()

    def leases(self, namespace: str) -> list[Lease]:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?labelSelector={OURS}"
        return [
            Lease(
                item["metadata"].get("labels", {}).get(INSTANCE, ""),
                item["metadata"]["resourceVersion"],
                float(item.get("spec", {}).get("leaseDurationSeconds") or 0),
            )
            for item in self.call("GET", path)["items"]
        ]

    def pods(self, namespace: str) -> list[Pod]:
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={OURS}"
        return [
            Pod(
                item["metadata"]["name"],
                item["metadata"]["uid"],
                item["metadata"].get("labels", {}).get(INSTANCE, ""),
                "deletionTimestamp" in item["metadata"],
            )
            for item in self.call("GET", path)["items"]
        ]

    def end(self, end: End) -> None:
        """Delete exactly the pod that was decided on; another one under its name stays."""
        options = {"gracePeriodSeconds": GRACE, "preconditions": {"uid": end.pod.uid}}
        try:
            self.call("DELETE", f"/api/v1/namespaces/{end.namespace}/pods/{end.pod.name}", options)
        except Refused as error:
            if error.status not in (404, 409):  # gone meanwhile
                raise

    def beat(self, namespaces: int) -> None:
        """Show that everything was looked at. The time is for people: gpuyard counts from when it
        saw this change."""
        shown = self.call("GET", BEAT)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        shown["metadata"].setdefault("annotations", {}).update(
            {"gpuyard.io/version": str(VERSION), "gpuyard.io/namespaces": str(namespaces)}
        )
        shown["spec"] = {"holderIdentity": f"gpuyard-reaper-{VERSION}", "renewTime": now}
        self.call("PUT", BEAT, shown)


# What a call can raise. None of it ends the program: the next look tries again.
TROUBLE = (Refused, OSError, http.client.HTTPException, ValueError, KeyError)


def look_at_all(api: Api, reaper: Reaper, known: int) -> int:
    """One look at every rental namespace; how many there are. Their numbers leave no gap, so the
    first one past the known that this account may not list is the end of the pool."""
    number, complete = 0, True
    while True:
        namespace = POOL.format(number + 1)
        try:
            look_at(api, reaper, namespace)
        except TROUBLE as error:
            beyond = number >= known
            if beyond and isinstance(error, Refused) and error.status == 403:
                break
            if beyond:
                raise
            say(f"{namespace}: this look failed: {error!r}")
            complete = False
        number += 1
    if complete and number:
        api.beat(number)
    return number


def look_at(api: Api, reaper: Reaper, namespace: str) -> None:
    """One look at one namespace. A pod that cannot be ended does not keep the others."""
    # Leases last: what was renewed while the pods were listed counts as renewed.
    pods, leases = api.pods(namespace), api.leases(namespace)
    failed: Exception | None = None
    for end in reaper.look(time.monotonic(), namespace, leases, pods):
        say(f"{namespace}: ending pod {end.pod.name} ({end.pod.instance}): {end.why}")
        try:
            api.end(end)
        except TROUBLE as error:
            failed = error
    if failed is not None:
        raise ValueError(f"a pod was not ended: {failed!r}") from failed


def run(api: Api, period: float) -> None:
    say(f"version {VERSION} looks every {period:g} s")
    reaper, known = Reaper(), 0
    while True:
        try:
            known = look_at_all(api, reaper, known)
        except TROUBLE as error:
            say(f"this look failed: {error!r}")
        api.close()
        time.sleep(period)


def say(text: str) -> None:
    print(f"reaper: {text}", flush=True)


def stop(number: int, frame: FrameType | None) -> None:
    """The first process of a container ignores SIGTERM unless it says what to do."""
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="reaper")
    parser.add_argument("--host", default=os.environ.get("KUBERNETES_SERVICE_HOST"))
    parser.add_argument("--port", default=os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
    parser.add_argument("--ca", default=f"{ACCOUNT}/ca.crt")
    parser.add_argument("--token-file", default=f"{ACCOUNT}/token")
    parser.add_argument("--period", type=float, default=PERIOD)
    given = parser.parse_args()
    if not given.host:
        parser.error("not in a cluster: give --host")
    signal.signal(signal.SIGTERM, stop)
    run(Api(given.host, int(given.port), given.ca, Path(given.token_file)), given.period)


if __name__ == "__main__":
    main()
