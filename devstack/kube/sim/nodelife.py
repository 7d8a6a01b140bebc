"""The node controller: nodes that fall silent become Unknown, are tainted, and lose their pods.

Silence is measured from when a lease last changed on this server's clock, as the real controller
does: what a node writes as its own time decides nothing.
"""

from __future__ import annotations

import datetime
from typing import Any

from devstack.kube.sim import kinds
from devstack.kube.sim.clock import parsed, stamp
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules.scheduling import bears_for
from devstack.kube.sim.store import Change, Store, Stored
from devstack.kube.sim.verbs import Verbs

Json = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"


class NodeLife:
    """`run` looks at all nodes; callers hold the store's lock."""

    def __init__(self, store: Store, verbs: Verbs, *, grace_s: float) -> None:
        self._store = store
        self._verbs = verbs
        self._grace = datetime.timedelta(seconds=grace_s)
        self._heard_at: dict[str, datetime.datetime] = {}
        self.dirty = False
        store.listen(self._heard)

    def run(self) -> float | None:
        """Judge every node; seconds until the next one may have to be judged."""
        self.dirty = False
        now = self._store.clock.now()
        waits = [wait for node in self._store.list(kinds.NODES) for wait in self._judged(node, now)]
        return max(0.0, min(waits)) if waits else None

    def _heard(self, kind: Kind, change: Change) -> None:
        if kind is kinds.LEASES and change.new.namespace == LEASE_NAMESPACE:
            self._heard_at[change.new.name] = self._store.clock.now()
        elif kind is kinds.NODES:
            self.dirty = True
            if change.type == "DELETED":
                self._heard_at.pop(change.new.name, None)
            elif change.type == "ADDED":
                self._heard_at.setdefault(change.new.name, self._store.clock.now())

    def _judged(self, node: Stored, now: datetime.datetime) -> list[float]:
        ready = _ready(node.body)
        left = (self._heard_at[node.name] + self._grace - now).total_seconds()
        if ready != "Unknown" and left <= 0:
            node = self._give_up(node, now)
            ready = "Unknown"
        elif ready != "Unknown":
            node = self._mark(node, ready, now)
            if ready == "True":
                return [left]
        return ([left] if ready != "Unknown" else []) + self._evict(node, now)

    def _give_up(self, node: Stored, now: datetime.datetime) -> Stored:
        text = "Kubelet stopped posting node status."
        conditions = [
            {
                **condition,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": text,
                "lastTransitionTime": stamp(now),
            }
            for condition in node.body["status"].get("conditions", [])
        ]
        status = {**node.body["status"], "conditions": conditions}
        node = self._store.replace(kinds.NODES, node, {**node.body, "status": status})
        for pod in self._pods_on(node.name):
            self._mark_unready(pod, now)
        return self._mark(node, "Unknown", now)

    def _mark(self, node: Stored, ready: str, now: datetime.datetime) -> Stored:
        """Taints that say how the node is, and no others of these two."""
        wanted = {"Unknown": UNREACHABLE, "False": NOT_READY}.get(ready)
        present = node.body["spec"].get("taints") or []
        has = {(taint["key"], taint["effect"]) for taint in present}
        kept = [t for t in present if t["key"] not in {UNREACHABLE, NOT_READY} - {wanted}]
        added = [
            {"key": wanted, "effect": effect, "timeAdded": stamp(now)}
            for effect in ("NoSchedule", "NoExecute")
            if wanted and (wanted, effect) not in has
        ]
        if not added and len(kept) == len(present):
            return node
        spec = {**node.body["spec"], "taints": kept + added}
        return self._store.replace(kinds.NODES, node, {**node.body, "spec": spec})

    def _evict(self, node: Stored, now: datetime.datetime) -> list[float]:
        """Delete pods that have borne the node's taint long enough; what the others have left."""
        waits: list[float] = []
        for taint in node.body["spec"].get("taints") or []:
            if taint["effect"] != "NoExecute" or "timeAdded" not in taint:
                continue
            since = (now - parsed(taint["timeAdded"])).total_seconds()
            for pod in self._pods_on(node.name):
                bears = bears_for(pod.body["spec"].get("tolerations") or [], taint)
                if bears is None or "deletionTimestamp" in pod.metadata:
                    continue
                if since < bears:
                    waits.append(bears - since)
                else:
                    self._delete(pod)
        return waits

    def _delete(self, pod: Stored) -> None:
        target = kinds.target_of(f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")
        assert target is not None
        self._verbs.delete(target, {}, dry_run=False)

    def _pods_on(self, node: str) -> list[Stored]:
        return [
            pod for pod in self._store.list(kinds.PODS) if pod.body["spec"].get("nodeName") == node
        ]

    def _mark_unready(self, pod: Stored, now: datetime.datetime) -> None:
        conditions = [
            {**condition, "status": "False", "lastTransitionTime": stamp(now)}
            if condition["type"] == "Ready" and condition["status"] == "True"
            else condition
            for condition in pod.body["status"].get("conditions", [])
        ]
        status = {**pod.body["status"], "conditions": conditions}
        self._store.replace(kinds.PODS, pod, {**pod.body, "status": status})


def _ready(node: Json) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    return str(next((c["status"] for c in conditions if c["type"] == "Ready"), "False"))
