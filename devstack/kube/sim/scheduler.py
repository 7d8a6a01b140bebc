"""Binds pods to nodes, and says why where it cannot. Decisions are rules/scheduling.py's.

It keeps account of what pods take from each node by listening to the store, so that one more pod
costs one look at the nodes, however many pods there are.
"""

from __future__ import annotations

from typing import Any

from devstack.kube.sim import kinds
from devstack.kube.sim.claims import Claims
from devstack.kube.sim.clock import stamp
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules import scheduling
from devstack.kube.sim.rules.pods import requests
from devstack.kube.sim.rules.scheduling import Decision, Seat
from devstack.kube.sim.store import Change, Store, Stored

Json = dict[str, Any]

_FINISHED = frozenset({"Succeeded", "Failed"})
_COMPONENT = "default-scheduler"


class Scheduler:
    """`run` places what waits; callers hold the store's lock."""

    def __init__(self, store: Store, claims: Claims) -> None:
        self._store = store
        self._claims = claims
        self._waiting: dict[tuple[str, str], None] = {}  # an ordered set: first come, first served
        self._taken: dict[str, tuple[str, dict[str, int]]] = {}  # pod UID -> node, amounts
        self._used: dict[str, dict[str, int]] = {}
        self._count: dict[str, int] = {}
        self.dirty = False
        store.listen(self._heard)

    def run(self) -> None:
        """Try every waiting pod once."""
        self.dirty = False
        for namespace, name in list(self._waiting):
            stored = self._store.get(kinds.PODS, namespace, name)
            if stored is not None and not stored.body["spec"].get("nodeName"):
                self._try(stored)

    def _try(self, pod: Stored) -> None:
        spec = pod.body["spec"]
        needs = self._claims.needs_of(pod)
        if needs.missing:
            self._refuse(pod, Decision(None, needs.missing))
            return
        decision = scheduling.place(spec, requests(spec), self._seats(), needs.terms)
        if decision.node is None:
            self._refuse(pod, decision)
        elif needs.unbound:
            self._claims.select_node(needs.unbound, decision.node)  # and wait for their volumes
        else:
            self._bind(pod, decision.node)

    def _seats(self) -> list[Seat]:
        return [
            scheduling.seat_of(
                node.body, self._used.get(node.name, {}), self._count.get(node.name, 0)
            )
            for node in self._store.list(kinds.NODES)
        ]

    def _bind(self, pod: Stored, node: str) -> None:
        conditions = [{"type": "PodScheduled", "status": "True", **self._times()}]
        body = {
            **pod.body,
            "spec": {**pod.body["spec"], "nodeName": node},
            "status": {**pod.body["status"], "conditions": conditions},
        }
        self._store.replace(kinds.PODS, pod, body)
        message = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self._tell(pod, "Normal", "Scheduled", message)

    def _refuse(self, pod: Stored, decision: Decision) -> None:
        """Said once per sentence: a real scheduler counts repetitions in one event."""
        conditions = pod.body["status"].get("conditions", [])
        if conditions and conditions[0].get("message") == decision.message:
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": decision.message,
            **self._times(),
        }
        body = {**pod.body, "status": {**pod.body["status"], "conditions": [condition]}}
        self._store.replace(kinds.PODS, pod, body)
        self._tell(pod, "Warning", "FailedScheduling", decision.message)

    def _times(self) -> Json:
        return {"lastProbeTime": None, "lastTransitionTime": stamp(self._store.clock.now())}

    def _tell(self, pod: Stored, kind: str, reason: str, message: str) -> None:
        post_event(self._store, pod, kind=kind, reason=reason, message=message, source=_COMPONENT)

    # -- what is taken -------------------------------------------------------------------------

    def _heard(self, kind: Kind, change: Change) -> None:
        if kind is kinds.PODS:
            self._pod_changed(change)
        elif kind in {kinds.NODES, kinds.CLAIMS, kinds.VOLUMES}:
            self.dirty = self.dirty or bool(self._waiting)

    def _pod_changed(self, change: Change) -> None:
        pod = change.new
        key, uid = (pod.namespace, pod.name), pod.metadata["uid"]
        gone = change.type == "DELETED"
        over = gone or pod.body.get("status", {}).get("phase") in _FINISHED
        node = pod.body["spec"].get("nodeName")
        if not node and not gone:
            if key not in self._waiting:
                self._waiting[key] = None
                self.dirty = True
            return
        self._waiting.pop(key, None)
        if over:
            self._give_back(uid)
        elif uid not in self._taken:
            self._take(uid, str(node), requests(pod.body["spec"]))

    def _take(self, uid: str, node: str, amounts: dict[str, int]) -> None:
        self._taken[uid] = (node, amounts)
        used = self._used.setdefault(node, {})
        for key, amount in amounts.items():
            used[key] = used.get(key, 0) + amount
        self._count[node] = self._count.get(node, 0) + 1

    def _give_back(self, uid: str) -> None:
        if uid not in self._taken:
            return
        node, amounts = self._taken.pop(uid)
        used = self._used[node]
        for key, amount in amounts.items():
            used[key] -= amount
        self._count[node] -= 1
        self.dirty = self.dirty or bool(self._waiting)


def post_event(
    store: Store, about: Stored, *, kind: str, reason: str, message: str, source: str
) -> None:
    """An event about an object, named after it and the version it is written at."""
    now = stamp(store.clock.now())
    namespace = about.namespace or "default"
    store.create(
        kinds.EVENTS,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{about.name}.{store.version:016x}",
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": about.body["apiVersion"],
                "kind": about.body["kind"],
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": source},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        },
    )
