"""A cluster in memory that lives on virtual time: its objects, and what happens to them by itself.

`advance` plays everything that is due, in order. Nothing here knows of the product; what a caller
may be told instead of the truth is in port.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from provisioner.kube.errors import Rejected
from tests.simulation.leases import PERIOD as LOOK
from tests.simulation.leases import SimLeases, SimReaper
from tests.simulation.pods import (
    HEALTHY,
    MODEL,
    NODE_SILENCE,
    Json,
    SimNode,
    SimPod,
    draw_fate,
)

# A kubelet or scheduler that could not act looks again after this.
RETRY = timedelta(seconds=3)
# What the product's tolerations ask for: pods of a lost node are deleted after it.
EVICTED_AFTER = timedelta(seconds=3600)
# The time that the reaper gives a program.
REAPED_IN = 30
POOL = ("gpuyard-r-01", "gpuyard-r-02", "gpuyard-r-03")

_PULLING: Json = {"waiting": {"reason": "PodInitializing"}}

OnEvent = Callable[[str, Json], None]


class SimCluster:
    """``trouble``: how often a new pod's way up goes wrong. ``skew``: its clock minus ours."""

    def __init__(self, number: int, nodes: Sequence[tuple[str, int]], start: datetime) -> None:
        self.number = number
        self.nodes = {name: SimNode(name, cards) for name, cards in nodes}
        self.pods: dict[tuple[str, str], SimPod] = {}
        self.history: list[SimPod] = []  # every pod that ever was
        self.secrets: set[tuple[str, str]] = set()
        self.leases = SimLeases()
        self.reaper = SimReaper(start)
        self.now = start
        self.skew = timedelta(0)
        self.trouble = 0.0
        self._mended = False
        self.rng = Random(0)
        self.on_event: OnEvent = lambda kind, shown: None
        self.on_created: Callable[[SimPod], None] = lambda pod: None
        self._version = 100
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = 0
        self._look_at = start

    # --- time ---------------------------------------------------------------------------------

    def advance(self, to: datetime) -> None:
        """Play what is due until ``to``."""
        while self._due and self._due[0][0] <= to:
            at = self._due[0][0]
            if self._look_at < at:
                self._reap()
                continue
            _, _, happen = heapq.heappop(self._due)
            self.now = max(self.now, at)
            happen()
        while self._look_at <= to:
            self._reap()
        self.now = max(self.now, to)

    def upcoming(self) -> list[datetime]:
        """When the next things happen by themselves; looks of the reaper where it may act."""
        moments = [self._due[0][0]] if self._due else []
        held = {(lease.namespace, lease.instance): lease for _, lease in self.leases.items()}
        for pod in self.pods.values():
            lease = held.get((pod.namespace, pod.instance))
            if not pod.stranger and (lease is None or lease.over(self._look_at)):
                return [*moments, self._look_at]
        return moments

    def _reap(self) -> None:
        """One look of the reaper, at its time."""
        self.now = max(self.now, self._look_at)
        self._look_at = max(self._look_at, self.now) + LOOK
        for pod in self.reaper.look(self.now, POOL, self.leases, self.pods.values()):
            self.delete(pod.namespace, pod.name, uid=pod.uid, grace=REAPED_IN)

    def after(self, delay: timedelta, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (self.now + delay, self._order, happen))

    def adopt(self, other: SimCluster) -> None:
        """What another life left, nothing of it under way to anything. Its reaper starts anew."""
        self.leases = SimLeases(other.leases.items())
        self.reaper = SimReaper(self.now, other.reaper.beats)
        self._look_at = self.now + LOOK
        for pod in other.history:
            own = replace(pod, labels=dict(pod.labels), main=dict(pod.main))
            own.proven = list(pod.proven)
            self.pods[own.namespace, own.name] = own
            self.history.append(own)
            self._version = max(self._version, own.version)

    # --- what the API server does ---------------------------------------------------------------

    @property
    def version(self) -> str:
        return str(self._version)

    def create(self, namespace: str, body: Json) -> SimPod:
        meta, spec = body["metadata"], body["spec"]
        key = (namespace, meta["name"])
        if key in self.pods:
            raise Rejected("exists", "409 AlreadyExists")
        term = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        pod = SimPod(
            namespace=namespace,
            name=meta["name"],
            uid=f"uid-{self.number}-{len(self.history)}",
            labels=dict(meta["labels"]),
            node=term["nodeSelectorTerms"][0]["matchFields"][0]["values"][0],
            gpus=int(spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]),
            created=self.now,
            fate=draw_fate(self.rng, self.trouble),
        )
        self.pods[key] = pod
        self.history.append(pod)
        self.on_created(pod)
        self._changed(pod, "ADDED")
        self.after(pod.fate.schedule, lambda: self._schedule(pod))
        return pod

    def get(self, namespace: str, name: str) -> SimPod:
        pod = self.pods.get((namespace, name))
        if pod is None:
            raise Rejected("not_found", "404 NotFound")
        return pod

    def delete(self, namespace: str, name: str, *, uid: str | None, grace: int) -> SimPod:
        pod = self.get(namespace, name)
        if uid is not None and uid != pod.uid:
            raise Rejected("conflict", "409 Conflict: UID in precondition")
        if grace == 0 or not pod.bound:
            self._remove(pod)
        elif not pod.deleting:
            pod.deleting = True
            self._changed(pod)
            self.after(timedelta(seconds=self.rng.uniform(0.2, grace)), lambda: self._stop(pod))
        return pod

    # --- what happens to machines -------------------------------------------------------------

    def silence(self, name: str) -> None:
        """The node's kubelet stops answering; its pods are called not ready 40 s later."""
        node = self.nodes[name]
        node.up, node.silent_since = False, self.now
        since = self.now
        self.after(NODE_SILENCE, lambda: self._node_lost(node, since))
        self.after(NODE_SILENCE + EVICTED_AFTER, lambda: self._evict_from(node, since))

    def revive(self, name: str, *, rebooted: bool) -> None:
        """The node is back; after a reboot its containers are new ones."""
        node = self.nodes[name]
        node.up, node.ready, node.silent_since = True, True, None
        for pod in self._on(name):
            if pod.deleting:
                self._remove(pod)
            elif "running" in pod.main:
                if rebooted:
                    pod.last = {"terminated": {"exitCode": 255, "reason": "Unknown"}}
                    pod.interrupt_truth(self.now)
                    self._restart(pod)
                else:
                    self._set_ready(pod, ready=True)

    def crash(self, pod: SimPod, back_in: timedelta) -> None:
        """The renter's program ends; the kubelet starts it again, in the end with success."""
        if "running" not in pod.main or not self.nodes[pod.node].up:
            return
        pod.main = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        pod.last = {"terminated": {"exitCode": 1, "reason": "Error"}}
        self._set_ready(pod, ready=False)
        run = pod.restarts
        self.after(back_in, lambda: self._come_back(pod, run))

    def lose(self, pod: SimPod) -> None:
        """Somebody other than us deletes it by force."""
        self._remove(pod)

    def add_stranger(self) -> None:
        """A running pod with our labels that was made before our memory begins."""
        number = len(self.history)
        pod = SimPod(
            namespace=POOL[number % len(POOL)],
            name=f"gy-stranger-{number}",
            uid=f"uid-{self.number}-{number}",
            labels={"gpuyard.io/instance": f"ins_{number:026d}"},
            node=min(self.nodes),
            gpus=0,
            created=self.now,
            fate=HEALTHY,
            bound=True,
            stranger=True,
        )
        self.pods[pod.namespace, pod.name] = pod
        self.history.append(pod)
        self._changed(pod, "ADDED")

    def fail(self, pod: SimPod) -> None:
        """The kubelet ends it: evicted, or not admitted after a restart."""
        if not pod.bound or not self.nodes[pod.node].up or pod.gone:
            return
        pod.phase, pod.reason, pod.main = "Failed", "Evicted", {"terminated": {"exitCode": 137}}
        self._set_ready(pod, ready=False)

    def mend(self) -> None:
        """Whatever is broken is whole again, and no pull is slow any more."""
        self._mended = True
        self.skew = timedelta(0)
        if not self.reaper.up:
            self.reaper.toggle()
        for node in self.nodes.values():
            node.healthy = node.cards
            if not node.up:
                self.revive(node.name, rebooted=False)
        for pod in list(self.pods.values()):
            if pod.bound and pod.check == _PULLING:
                self._kubelet(pod, timedelta(seconds=1), self._pulled)
            if "waiting" in pod.main and pod.phase == "Running":
                self._come_back(pod, pod.restarts)

    def node_objects(self) -> list[Json]:
        return [_node_object(node) for node in self.nodes.values()]

    # --- inside ---------------------------------------------------------------------------------

    def _on(self, node: str) -> list[SimPod]:
        return [pod for pod in self.pods.values() if pod.node == node and pod.bound]

    def _changed(self, pod: SimPod, kind: str = "MODIFIED") -> None:
        self._version += 1
        pod.version = self._version
        node = self.nodes[pod.node]
        pod.note_truth(self.now, on_healthy_node=node.ready)
        self.on_event(kind, pod.shown())

    def _schedule(self, pod: SimPod) -> None:
        if pod.gone or pod.bound:
            return
        node = self.nodes[pod.node]
        taken = sum(other.gpus for other in self._on(pod.node) if other.occupies)
        if not node.ready or taken + pod.gpus > node.healthy:
            if not pod.unschedulable:
                pod.unschedulable = "0/1 nodes are available: insufficient nvidia.com/gpu"
                self._changed(pod)
            self.after(RETRY, lambda: self._schedule(pod))
            return
        pod.bound, pod.unschedulable = True, ""
        pod.check = dict(_PULLING)
        self._changed(pod)
        pull = HEALTHY.pull if self._mended else pod.fate.pull
        self._kubelet(pod, pull, self._pulled)

    def _kubelet(self, pod: SimPod, delay: timedelta, act: Callable[[SimPod], None]) -> None:
        """``act`` after ``delay``, or once its node answers again; never on a pod that ends."""

        def happen() -> None:
            if pod.gone or pod.deleting or pod.phase in ("Failed", "Succeeded"):
                return
            if self.nodes[pod.node].up:
                act(pod)
            else:
                self.after(RETRY, happen)

        self.after(delay, happen)

    def _pulled(self, pod: SimPod) -> None:
        if pod.check != _PULLING:
            return
        if pod.fate.image:
            pod.check = {"waiting": {"reason": pod.fate.image, "message": "manifest unknown"}}
            self._changed(pod)
            return
        pod.check = {"running": {}}
        self._changed(pod)
        self._kubelet(pod, pod.fate.check, self._checked)

    def _checked(self, pod: SimPod) -> None:
        if pod.fate.check_fails:
            pod.check = {"terminated": {"exitCode": 71, "message": "the check failed"}}
            self._changed(pod)
            return
        pod.check = {"terminated": {"exitCode": 0, "message": pod.report()}}
        self._changed(pod)
        self._kubelet(pod, timedelta(milliseconds=300), self._come_up)

    def _come_up(self, pod: SimPod) -> None:
        pod.main, pod.phase = {"running": {}}, "Running"
        pod.container = f"containerd://{pod.uid}-{pod.restarts}"
        self._set_ready(pod, ready=True)

    def _come_back(self, pod: SimPod, run: int) -> None:
        if not pod.gone and not pod.deleting and pod.phase == "Running" and pod.restarts == run:
            if self.nodes[pod.node].up:
                self._restart(pod)
            else:
                self.after(RETRY, lambda: self._come_back(pod, run))

    def _restart(self, pod: SimPod) -> None:
        pod.restarts += 1
        pod.main = {"running": {}}
        pod.container = f"containerd://{pod.uid}-{pod.restarts}"
        # Not ready for a moment although nobody may look in between.
        pod.ready = False
        self._set_ready(pod, ready=True)

    def _set_ready(self, pod: SimPod, *, ready: bool) -> None:
        if ready != pod.ready:
            pod.ready = ready
            pod.ready_stamp = (self.now + self.skew).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._changed(pod)

    def _stop(self, pod: SimPod) -> None:
        if pod.gone:
            return
        if self.nodes[pod.node].up:
            self._remove(pod)
        else:
            self.after(RETRY, lambda: self._stop(pod))

    def _remove(self, pod: SimPod) -> None:
        pod.gone = True
        pod.ready = False
        del self.pods[pod.namespace, pod.name]
        self._changed(pod, "DELETED")

    def _node_lost(self, node: SimNode, since: datetime) -> None:
        if node.silent_since != since:
            return
        node.ready = False
        for pod in self._on(node.name):
            if pod.ready or pod.phase == "Running":
                self._set_ready(pod, ready=False)

    def _evict_from(self, node: SimNode, since: datetime) -> None:
        if node.silent_since != since:
            return
        for pod in self._on(node.name):
            if not pod.deleting:
                pod.deleting = True
                self._changed(pod)


def _node_object(node: SimNode) -> Json:
    return {
        "metadata": {
            "name": node.name,
            "uid": f"node-{node.name}",
            "labels": {
                "gpuyard.io/pool": "rental",
                "nvidia.com/gpu.product": MODEL,
                "nvidia.com/gpu.memory": "81559",
                "nvidia.com/cuda.driver.major": "575",
                "nvidia.com/cuda.driver.minor": "57",
                "nvidia.com/cuda.runtime.major": "12",
                "nvidia.com/cuda.runtime.minor": "9",
            },
        },
        "spec": {"taints": [{"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if node.ready else "False"}],
            "capacity": {"nvidia.com/gpu": str(node.cards)},
            "allocatable": {
                "nvidia.com/gpu": str(node.healthy),
                "cpu": str(16 * node.cards),
                "memory": f"{200 * node.cards}Gi",
                "ephemeral-storage": f"{500 * node.cards}Gi",
            },
        },
    }
