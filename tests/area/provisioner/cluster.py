"""A cluster in memory behind the same port as the real one, with faults on order.

It has what the loops rely on: names are unique, deletion honours UID preconditions and grace,
versions grow. ``fail`` raises before or after the effect, as networks do.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kernel.errors import VendorError
from provisioner.kube.errors import Rejected
from provisioner.models import Cluster

Json = dict[str, Any]


class MemoryCluster:
    """``connect`` is what a loop's ``run(connect=…)`` takes."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Json] = {}
        self.secrets: dict[tuple[str, str], Json] = {}
        self.claims: dict[tuple[str, str], Json] = {}
        self.classes: list[Json] = []
        self.leases: dict[tuple[str, str], Json] = {}
        self.heartbeat: Json | None = None  # the reaper's lease
        self.logs: dict[tuple[str, bool], bytes] = {}  # by pod and whether of the run before
        self.nodes: list[Json] = []
        self.namespaces = [f"gpuyard-r-{number:02d}" for number in range(1, 5)]
        self.calls: list[str] = []
        self.created: list[str] = []  # UIDs of every pod that ever existed
        self.token: tuple[str, str] = ("", "")
        self._versions = itertools.count(100)
        self.events: list[Json] = []
        self._faults: list[tuple[str, bool, Callable[[], VendorError]]] = []
        self._lock = threading.Lock()

    def connect(self, _: Cluster) -> MemoryCluster:
        return self

    def fail(
        self, call: str, error: Callable[[], VendorError], *, after: bool = False, times: int = 1
    ) -> None:
        """The next ``times`` calls of this name fail before, or only after, they took effect."""
        self._faults += [(call, after, error)] * times

    # --- the port -------------------------------------------------------------------------------

    def create_pod(self, namespace: str, body: Json) -> Json:
        with self._effect("create_pod"):
            key = (namespace, body["metadata"]["name"])
            if key in self.pods:
                raise Rejected("exists", "409")
            pod = copy.deepcopy(body)
            uid = f"uid-{next(self._versions)}"
            pod["metadata"] |= {"namespace": namespace, "uid": uid}
            pod["status"] = {"phase": "Pending"}
            self.created.append(uid)
            self._put(key, pod)
            return copy.deepcopy(pod)

    def get_pod(self, namespace: str, name: str) -> Json:
        with self._effect("get_pod"):
            return copy.deepcopy(self._pod(namespace, name))

    def delete_pod(self, namespace: str, name: str, *, uid: str | None, grace: int) -> Json:
        with self._effect("delete_pod"):
            pod = self._pod(namespace, name)
            if uid is not None and pod["metadata"]["uid"] != uid:
                raise Rejected("conflict", "409")
            shown = copy.deepcopy(pod)
            if grace == 0:
                del self.pods[namespace, name]
            else:
                pod["metadata"]["deletionTimestamp"] = "2026-11-01T10:00:00Z"
                shown = copy.deepcopy(pod)
            return shown

    def list_pods(self, namespace: str) -> tuple[list[Json], str]:
        with self._effect("list_pods"):
            found = [copy.deepcopy(pod) for (ns, _), pod in self.pods.items() if ns == namespace]
            return found, str(next(self._versions))

    def watch_pods(
        self, namespace: str, version: str, *, silence: float, seconds: float
    ) -> Iterator[Json]:
        with self._effect("watch_pods"):
            return iter(())

    def pod_log(
        self, namespace: str, name: str, *, previous: bool, limit_bytes: int, **_: Any
    ) -> tuple[bytes, bool]:
        with self._effect("pod_log"):
            self._pod(namespace, name)
            raw = self.logs.get((name, previous))
            if raw is None:
                raise Rejected("invalid", "400 waiting to start")
            return raw[-limit_bytes:], len(raw) > limit_bytes

    def follow_log(self, namespace: str, name: str, **_: Any) -> Iterator[bytes]:
        with self._effect("follow_log"):
            return iter([self.logs[name, False]])

    def create_secret(self, namespace: str, body: Json) -> None:
        with self._effect("create_secret"):
            self.secrets.setdefault((namespace, body["metadata"]["name"]), copy.deepcopy(body))

    def delete_secret(self, namespace: str, name: str) -> None:
        with self._effect("delete_secret"):
            self.secrets.pop((namespace, name), None)

    def create_claim(self, namespace: str, body: Json) -> Json:
        with self._effect("create_claim"):
            key = (namespace, body["metadata"]["name"])
            if key in self.claims:
                raise Rejected("exists", "409")
            claim = copy.deepcopy(body)
            claim["metadata"] |= {"namespace": namespace, "uid": f"pvc-{next(self._versions)}"}
            claim["status"] = {"phase": "Pending"}
            self.claims[key] = claim
            return copy.deepcopy(claim)

    def get_claim(self, namespace: str, name: str) -> Json:
        with self._effect("get_claim"):
            return copy.deepcopy(self._claim(namespace, name))

    def patch_claim(self, namespace: str, name: str, body: Json) -> Json:
        with self._effect("patch_claim"):
            claim = self._claim(namespace, name)
            claim["spec"]["resources"]["requests"] |= body["spec"]["resources"]["requests"]
            return copy.deepcopy(claim)

    def delete_claim(self, namespace: str, name: str, *, uid: str | None) -> None:
        with self._effect("delete_claim"):
            claim = self._claim(namespace, name)
            if uid is not None and claim["metadata"]["uid"] != uid:
                raise Rejected("conflict", "409")
            claim["metadata"]["deletionTimestamp"] = "2026-11-01T10:00:00Z"

    def list_claims(self, namespace: str) -> tuple[list[Json], str]:
        with self._effect("list_claims"):
            found = [
                copy.deepcopy(item) for (ns, _), item in self.claims.items() if ns == namespace
            ]
            return found, str(next(self._versions))

    def list_storage_classes(self) -> list[Json]:
        with self._effect("list_storage_classes"):
            return copy.deepcopy(self.classes)

    def create_lease(self, namespace: str, body: Json) -> str:
        with self._effect("create_lease"):
            key = (namespace, body["metadata"]["name"])
            if key in self.leases:
                return ""
            return self._put_lease(key, body)

    def lease_version(self, namespace: str, name: str) -> str:
        with self._effect("lease_version"):
            return str(self._lease(namespace, name)["metadata"]["resourceVersion"])

    def replace_lease(self, namespace: str, body: Json) -> str:
        with self._effect("replace_lease"):
            key = (namespace, body["metadata"]["name"])
            present = self._lease(*key)["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != present:
                raise Rejected("conflict", "409")
            return self._put_lease(key, body)

    def delete_lease(self, namespace: str, name: str) -> None:
        with self._effect("delete_lease"):
            self.leases.pop((namespace, name), None)

    def reaper_lease(self) -> Json:
        with self._effect("reaper_lease"):
            if self.heartbeat is None:
                raise Rejected("not_found", "404")
            return copy.deepcopy(self.heartbeat)

    def list_nodes(self) -> list[Json]:
        with self._effect("list_nodes"):
            return copy.deepcopy(self.nodes)

    def list_events(self, namespace: str) -> list[Json]:
        return self.events

    def server_version(self) -> str:
        with self._effect("server_version"):
            return "v1.20.2"

    def may_create_pods(self, namespace: str) -> bool:
        with self._effect("may_create_pods"):
            return namespace in self.namespaces

    def renew_token(self, *, seconds: int) -> tuple[str, str]:
        with self._effect("renew_token"):
            return self.token

    # --- what a kubelet does --------------------------------------------------------------------

    def run_pods(self, *, model: str = "NVIDIA-H100-80GB-HBM3", missing: int = 0) -> None:
        """Every pod is scheduled, checked and ready."""
        for key, pod in self.pods.items():
            limits = pod["spec"]["containers"][0]["resources"]["limits"]
            count = int(limits["nvidia.com/gpu"]) - missing
            devices = [
                {"uid": f"{pod['metadata']['uid']}-{i}", "model": model, "memory_mib": 81559}
                for i in range(count)
            ]
            report = {"exitCode": 0, "message": json.dumps({"devices": devices})}
            self.set_status(
                key,
                phase="Running",
                ready=True,
                check={"terminated": report},
                main={"running": {}},
            )

    def set_status(
        self,
        key: tuple[str, str],
        *,
        phase: str = "Running",
        ready: bool = False,
        check: Json | None = None,
        main: Json | None = None,
        restarts: int = 0,
        ready_since: str = "2026-11-01T10:00:00Z",
        refused: str = "",
    ) -> None:
        pod = self.pods[key]
        before = pod["status"].get("initContainerStatuses", [{"state": {}}])[0]["state"]
        pod["status"] = {
            "phase": phase,
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": ready_since},
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                 "message": refused}
                if refused
                else {"type": "PodScheduled", "status": "True"},
            ],
            "initContainerStatuses": [
                {"name": "gpuyard-check", "state": before if check is None else check}
            ],
            "containerStatuses": [
                {
                    "name": "main",
                    "state": main or {"waiting": {"reason": "PodInitializing"}},
                    "restartCount": restarts,
                    "containerID": f"containerd://{restarts}",
                }
            ],
        }  # fmt: skip
        self._put(key, pod)

    def finish_deletions(self) -> None:
        """Pods that were told to go are gone."""
        for key, pod in list(self.pods.items()):
            if "deletionTimestamp" in pod["metadata"]:
                del self.pods[key]

    def bind_claims(self, *, node: str = "") -> None:
        """Every claim has its storage, of the size it asks for."""
        for claim in self.claims.values():
            asked = claim["spec"]["resources"]["requests"]["storage"]
            claim["status"] = {"phase": "Bound", "capacity": {"storage": asked}}
            if node:
                note = {"volume.kubernetes.io/selected-node": node}
                claim["metadata"]["annotations"] = note

    def finish_claim_deletions(self) -> None:
        """Claims that were told to go are gone."""
        for key, claim in list(self.claims.items()):
            if "deletionTimestamp" in claim["metadata"]:
                del self.claims[key]

    def only_key(self) -> tuple[str, str]:
        (key,) = self.pods
        return key

    # --- inside ---------------------------------------------------------------------------------

    def _put(self, key: tuple[str, str], pod: Json) -> None:
        pod["metadata"]["resourceVersion"] = str(next(self._versions))
        self.pods[key] = pod

    def _put_lease(self, key: tuple[str, str], body: Json) -> str:
        lease = copy.deepcopy(body)
        lease["metadata"]["resourceVersion"] = version = str(next(self._versions))
        self.leases[key] = lease
        return version

    def _lease(self, namespace: str, name: str) -> Json:
        if (namespace, name) not in self.leases:
            raise Rejected("not_found", "404")
        return self.leases[namespace, name]

    def _pod(self, namespace: str, name: str) -> Json:
        if (namespace, name) not in self.pods:
            raise Rejected("not_found", "404")
        return self.pods[namespace, name]

    def _claim(self, namespace: str, name: str) -> Json:
        if (namespace, name) not in self.claims:
            raise Rejected("not_found", "404")
        return self.claims[namespace, name]

    def _effect(self, call: str) -> _Effect:
        return _Effect(self, call)

    def take_fault(self, call: str, *, after: bool) -> VendorError | None:
        for number, (name, when, error) in enumerate(self._faults):
            if name == call and when == after:
                del self._faults[number]
                return error()
        return None


class _Effect:
    """One call: its fault before the effect, the effect under a lock, its fault after it."""

    def __init__(self, cluster: MemoryCluster, call: str) -> None:
        self._cluster, self._call = cluster, call

    def __enter__(self) -> None:
        cluster = self._cluster
        cluster.calls.append(self._call)
        fault = cluster.take_fault(self._call, after=False)
        if fault is not None:
            raise fault
        cluster._lock.acquire()

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._cluster._lock.release()
        if kind is None:
            fault = self._cluster.take_fault(self._call, after=True)
            if fault is not None:
                raise fault
