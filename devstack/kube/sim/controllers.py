"""What scheduler and controller manager do, as one function to call when something changed.

`run_due` needs no thread: a simulation with virtual time calls it between its steps, and servers
have driver.py.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from devstack.kube.sim import admission, kinds
from devstack.kube.sim.claims import Claims
from devstack.kube.sim.clock import parsed
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.nodelife import NodeLife
from devstack.kube.sim.rules.quota import charged
from devstack.kube.sim.scheduler import Scheduler
from devstack.kube.sim.store import Change, Store, Stored
from devstack.kube.sim.verbs import Verbs

Json = dict[str, Any]

# Namespaces of every cluster.
FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
# How often events are looked at for their end.
_SWEEP_S = 60.0
_QUOTA_KINDS = tuple(
    kind for kind in kinds.ALL if kind.namespaced and kind not in {kinds.EVENTS, kinds.QUOTAS}
)


class Controllers:
    """All controllers of one cluster. `node_grace_s`: silence after which a node is Unknown.
    `event_ttl_s`: how long events are kept (an hour on real clusters)."""

    def __init__(
        self, store: Store, verbs: Verbs, *, node_grace_s: float = 40.0, event_ttl_s: float = 3600.0
    ) -> None:
        self._store = store
        self._verbs = verbs
        self._event_ttl = datetime.timedelta(seconds=event_ttl_s)
        self._sweep_at = store.clock.now()
        self._quotas: set[str] = set()  # namespaces whose usage has to be written again
        self._namespaces: set[str] = set()  # to be looked at
        self._going: set[str] = set()  # their deletion was asked for
        self.wake: Callable[[], None] = lambda: None
        self._claims = Claims(store)
        self._scheduler = Scheduler(store, self._claims)
        self._nodes = NodeLife(store, verbs, grace_s=node_grace_s)
        store.listen(self._heard)
        for name in FIRST_NAMESPACES:
            store.create(kinds.NAMESPACES, _namespace(name))
        self.run_due()

    def run_due(self) -> float | None:
        """Do what has to be done now; seconds until something may be due by itself."""
        with self._store.lock:
            while self._work():
                pass
            waits = [self._nodes.run(), self._sweep()]
            if self._dirty():
                return 0.0
        return min((wait for wait in waits if wait is not None), default=None)

    def _work(self) -> bool:
        """One round; whether it may have made more to do."""
        if not self._dirty():
            return False
        for name in sorted(self._namespaces):
            self._keep_namespace(name)
        self._namespaces.clear()
        if self._claims.dirty:
            self._claims.run()
        if self._scheduler.dirty:
            self._scheduler.run()
        if self._nodes.dirty:
            self._nodes.run()
        for namespace in sorted(self._quotas):
            self._write_usage(namespace)
        self._quotas.clear()
        return True

    def _dirty(self) -> bool:
        return bool(
            self._namespaces
            or self._quotas
            or self._claims.dirty
            or self._scheduler.dirty
            or self._nodes.dirty
        )

    def _heard(self, kind: Kind, change: Change) -> None:
        if kind is kinds.NAMESPACES:
            self._namespaces.add(change.new.name)
        elif kind.namespaced and change.new.namespace in self._going:
            self._namespaces.add(change.new.namespace)
        counts = change.type != "MODIFIED" or (
            kind is kinds.PODS
            and change.old is not None
            and charged(kind.key, change.old.body) != charged(kind.key, change.new.body)
        )
        limited = kind in _QUOTA_KINDS and self._store.count(kinds.QUOTAS, change.new.namespace)
        if kind is kinds.QUOTAS or (limited and counts):
            self._quotas.add(change.new.namespace)
        if self._dirty():
            self.wake()

    # -- namespaces ----------------------------------------------------------------------------

    def _keep_namespace(self, name: str) -> None:
        """A living one has its default account; one that is going is emptied, then removed."""
        stored = self._store.get(kinds.NAMESPACES, "", name)
        if stored is None:
            self._going.discard(name)
            return
        if stored.body["status"]["phase"] != "Terminating":
            if self._store.get(kinds.ACCOUNTS, name, "default") is None:
                metadata = {"name": "default", "namespace": name}
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
                self._store.create(kinds.ACCOUNTS, account)
            return
        self._going.add(name)
        left = False
        for kind in kinds.ALL:
            for each in self._store.list(kind, name) if kind.namespaced else []:
                left = self._empty(kind, each) or left
        if not left:
            self._store.remove(kinds.NAMESPACES, stored)

    def _empty(self, kind: Kind, stored: Stored) -> bool:
        """Delete one object; whether it needs time to go."""
        if kind not in {kinds.PODS, kinds.CLAIMS}:
            self._store.remove(kind, stored)
            return False
        path = f"/api/v1/namespaces/{stored.namespace}/{kind.plural}/{stored.name}"
        target = kinds.target_of(path)
        assert target is not None
        self._verbs.delete(target, {}, dry_run=False)
        return self._store.get(kind, stored.namespace, stored.name) is not None

    # -- quotas and events -----------------------------------------------------------------------

    def _write_usage(self, namespace: str) -> None:
        used: dict[str, int] | None = None
        for stored in self._store.list(kinds.QUOTAS, namespace):
            used = used or admission.used_in(self._store, namespace, _QUOTA_KINDS)
            hard = stored.body["spec"].get("hard", {})
            status = {"hard": hard, "used": {key: str(used.get(key, 0)) for key in hard}}
            self._store.replace(kinds.QUOTAS, stored, {**stored.body, "status": status})

    def _sweep(self) -> float:
        now = self._store.clock.now()
        left = (self._sweep_at - now).total_seconds()
        if left > 0:
            return left
        for stored in self._store.list(kinds.EVENTS):
            if now - parsed(stored.metadata["creationTimestamp"]) > self._event_ttl:
                self._store.remove(kinds.EVENTS, stored)
        self._sweep_at = now + datetime.timedelta(seconds=_SWEEP_S)
        return _SWEEP_S


def _namespace(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
