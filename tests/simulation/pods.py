"""The life of pods on simulated nodes: what scheduler, kubelet and node controller do over time.

Every change happens at a virtual moment and is kept as truth: `proven` are the stretches in which
the pod held the cards that were ordered on a node that the API server called healthy, its check
passed and its program ready, or ended by its own doing only. Nothing of the product is read to know
that, so charges can be held against it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

Json = dict[str, Any]

MODEL = "NVIDIA-H100-80GB-HBM3"
# As in Kubernetes: a silent node's pods are called not ready after 40 s.
NODE_SILENCE = timedelta(seconds=40)


@dataclass
class SimNode:
    """A node with its cards. ``healthy`` of them are offered; ``up`` False: the kubelet is silent,
    and ``ready`` follows after a while."""

    name: str
    cards: int
    healthy: int = -1
    up: bool = True
    ready: bool = True
    silent_since: datetime | None = None

    def __post_init__(self) -> None:
        if self.healthy < 0:
            self.healthy = self.cards


@dataclass(frozen=True)
class Fate:
    """What will become of a pod on its way up, drawn when it is made."""

    schedule: timedelta
    pull: timedelta
    check: timedelta
    image: str  # "", or the kubelet's reason why it cannot be pulled
    found: int  # cards that the check finds, minus those ordered
    model: str
    check_fails: bool


HEALTHY = Fate(
    timedelta(milliseconds=300),
    timedelta(seconds=2),
    timedelta(seconds=1),
    "",
    0,
    MODEL,
    check_fails=False,
)


def draw_fate(rng: Random, trouble: float) -> Fate:
    """A fate; with the probability ``trouble`` a bad one."""
    bad = rng.choices(
        ["", "slow", "very slow", "image", "fewer", "model", "check"],
        [1 - trouble, *[trouble * share for share in (0.3, 0.1, 0.2, 0.15, 0.15, 0.1)]],
    )[0]
    pull = {"slow": rng.uniform(60, 600), "very slow": rng.uniform(2400, 4000)}
    return Fate(
        schedule=timedelta(milliseconds=rng.randint(50, 2000)),
        pull=timedelta(seconds=pull.get(bad, rng.uniform(1, 15))),
        check=timedelta(seconds=rng.uniform(0.5, 3)),
        image=rng.choice(["ErrImagePull", "InvalidImageName"]) if bad == "image" else "",
        found=-1 if bad == "fewer" else 0,
        model="NVIDIA-A100-SXM4-40GB" if bad == "model" else MODEL,
        check_fails=bad == "check",
    )


@dataclass
class SimPod:
    """A pod as the API server has it, and what is true of it."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    node: str  # where its affinity wants it
    gpus: int
    created: datetime
    fate: Fate
    version: int = 0
    bound: bool = False
    unschedulable: str = ""
    phase: str = "Pending"
    reason: str = ""
    check: Json = field(default_factory=dict)
    main: Json = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: Json = field(default_factory=dict)  # how its program ended before
    restarts: int = 0
    container: str = ""
    ready: bool = False
    ready_stamp: str = ""
    deleting: bool = False
    gone: bool = False
    stranger: bool = False  # carries our label, and no instance of ours is known by it
    late: bool = False  # made by a create whose worker had lost its claim before it was sent
    proven: list[tuple[datetime, datetime | None]] = field(default_factory=list)

    @property
    def rental(self) -> str:
        return self.labels.get("gpuyard.io/rental", "")

    @property
    def instance(self) -> str:
        return self.labels.get("gpuyard.io/instance", "")

    @property
    def tenant(self) -> str:
        return self.labels.get("gpuyard.io/tenant", "")

    @property
    def occupies(self) -> bool:
        """Whether its cards are taken: bound, and its containers not over."""
        return self.bound and not self.gone and self.phase not in ("Failed", "Succeeded")

    @property
    def as_ordered(self) -> bool:
        """Whether its check found what was ordered."""
        return not self.fate.found and self.fate.model == MODEL

    @property
    def crashed(self) -> bool:
        """Ended by its own doing: its cards are held and well all the same."""
        return self.phase == "Running" and "waiting" in self.main

    def note_truth(self, at: datetime, *, on_healthy_node: bool) -> None:
        """Open or close a proven stretch after a change at ``at``."""
        up = self.ready and "running" in self.main
        began = bool(self.proven) and self.proven[-1][1] is None
        true = (up or (self.crashed and began)) and on_healthy_node
        true = true and self.as_ordered and not self.gone
        if true and not began:
            self.proven.append((at, None))
        elif began and not true:
            self.proven[-1] = (self.proven[-1][0], at)

    def interrupt_truth(self, at: datetime) -> None:
        """Its node went away under it for a moment."""
        if self.proven and self.proven[-1][1] is None:
            self.proven[-1] = (self.proven[-1][0], at)

    def report(self) -> str:
        """The termination message of the check."""
        cards = [
            {"uid": f"GPU-{self.node}-{number}", "model": self.fate.model, "memory_mib": 81559}
            for number in range(self.gpus + self.fate.found)
        ]
        return json.dumps({"devices": cards})

    def shown(self) -> Json:
        """The object as the API server answers, as far as anybody reads it."""
        meta: Json = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "labels": dict(self.labels),
            "resourceVersion": str(self.version),
        }
        if self.deleting:
            meta["deletionTimestamp"] = "2026-03-01T00:00:00Z"
        scheduled: Json = {"type": "PodScheduled", "status": "True" if self.bound else "False"}
        if self.unschedulable:
            scheduled |= {"reason": "Unschedulable", "message": self.unschedulable}
        ready = {
            "type": "Ready",
            "status": "True" if self.ready else "False",
            "lastTransitionTime": self.ready_stamp,
        }
        status: Json = {"phase": self.phase, "conditions": [scheduled, ready]}
        if self.reason:
            status["reason"] = self.reason
        if self.bound:
            status["initContainerStatuses"] = [{"name": "gpuyard-check", "state": self.check}]
            status["containerStatuses"] = [
                {
                    "name": "main",
                    "state": self.main,
                    "lastState": self.last,
                    "restartCount": self.restarts,
                    "containerID": self.container,
                }
            ]
        spec = {"nodeName": self.node} if self.bound else {}
        return {"metadata": meta, "spec": spec, "status": status}
