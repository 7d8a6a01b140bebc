"""An independent watch of one API server: when each pod appeared, was ready, was told to go, left.

It shares no code with the product and reads with the administrator's credentials, so what it saw
can be held against what the product billed. Times are this machine's clock, which is also the
database's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devstack.kube.api import Api, ApiError

Json = dict[str, Any]


@dataclass
class Sighting:
    """What was seen of one pod; times in UTC, None until it happened."""

    uid: str
    name: str
    namespace: str
    spec: Json
    labels: dict[str, str]
    appeared_at: datetime
    ready_at: datetime | None = None
    unready_at: datetime | None = None  # Ready turned false again
    deletion_at: datetime | None = None  # deletionTimestamp was set
    gone_at: datetime | None = None
    history: list[str] = field(default_factory=list)


class Witness:
    """Watches all pods of a cluster from `start` to `stop`; `sightings` by pod UID."""

    def __init__(self, admin_kubeconfig: Path) -> None:
        self.api = Api.from_kubeconfig(admin_kubeconfig)
        self.sightings: dict[str, Sighting] = {}
        self.changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="witness")

    def start(self) -> Witness:
        listed = self.api.get("/api/v1/pods")
        for pod in listed["items"]:
            self._note("ADDED", pod)
        self._version = listed["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()  # the thread is a daemon; its watch ends within its time limit

    def for_label(self, label: str, value: str) -> list[Sighting]:
        with self.changed:
            return [s for s in self.sightings.values() if s.labels.get(label) == value]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                events = self.api.watch(
                    "/api/v1/pods",
                    silence_s=30,
                    resourceVersion=self._version,
                    allowWatchBookmarks="true",
                    timeoutSeconds="20",
                )
                for event in events:
                    self._version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._note(event["type"], event["object"])
            except ApiError as error:
                if error.status != 410:
                    raise
                self._list_again()
            except OSError:
                if self._stopping.wait(0.5):  # the server is away or ended: try again until told
                    return

    def _list_again(self) -> None:
        """What the watch missed: pods as they are now, and those that are not there any more."""
        listed = self.api.get("/api/v1/pods")
        for pod in listed["items"]:
            self._note("MODIFIED", pod)
        there = {pod["metadata"]["uid"] for pod in listed["items"]}
        with self.changed:
            for sighting in self.sightings.values():
                if sighting.uid not in there and sighting.gone_at is None:
                    sighting.gone_at = datetime.now(UTC)
            self.changed.notify_all()
        self._version = listed["metadata"]["resourceVersion"]

    def _note(self, kind: str, pod: Json) -> None:
        now = datetime.now(UTC)
        meta = pod["metadata"]
        conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
        ready = conditions.get("Ready") == "True"
        with self.changed:
            seen = self.sightings.get(meta["uid"])
            if seen is None:
                seen = self.sightings[meta["uid"]] = Sighting(
                    uid=meta["uid"],
                    name=meta["name"],
                    namespace=meta["namespace"],
                    spec=pod["spec"],
                    labels=meta.get("labels", {}),
                    appeared_at=now,
                )
            seen.spec = pod["spec"]
            if ready and seen.ready_at is None:
                seen.ready_at = now
            if not ready and seen.ready_at and seen.unready_at is None:
                seen.unready_at = now
            if meta.get("deletionTimestamp") and seen.deletion_at is None:
                seen.deletion_at = now
            if kind == "DELETED":
                seen.gone_at = now
            seen.history.append(f"{now.isoformat()} {kind} ready={ready}")
            self.changed.notify_all()
