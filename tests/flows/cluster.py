"""A cluster in memory behind the interface that the loops use: it keeps pods and answers.

Its kubelet does nothing by itself: a test says when a pod pulls, runs or vanishes. Times are those
of the test's clock.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kernel.errors import TemporaryError
from provisioner.kube.errors import Rejected

Json = dict[str, Any]


class FakeCluster:
    """Pods by (namespace, name). ``down``: every call fails without effect."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Json] = {}
        self.secrets: dict[tuple[str, str], Json] = {}
        self.leases: dict[tuple[str, str], Json] = {}
        self.claims: dict[tuple[str, str], Json] = {}
        self.created = 0
        self.graces: list[int] = []  # of each deletion that ended a pod, in seconds
        self.down = False
        self._version = 100

    # -- what a test does to pods ----------------------------------------------------------

    def only(self) -> Json:
        """The one pod there is."""
        (pod,) = self.pods.values()
        return pod

    def pull(self) -> None:
        """The scheduler bound it; the check's image is being downloaded."""
        pod = self.only()
        pod["spec"]["nodeName"] = "node-1"
        self._status(pod, "Pending", check={"waiting": {"reason": "PodInitializing"}})

    def refuse_image(self, cards: int) -> None:
        """The check passed; the main image's name is none."""
        pod = self.only()
        pod["spec"]["nodeName"] = "node-1"
        waiting = {"reason": "InvalidImageName", "message": "not a name"}
        self._status(pod, "Pending", check=self._passed(cards), main={"waiting": waiting})

    def run(self, at: datetime, cards: int, model: str = "NVIDIA-H100-80GB-HBM3") -> None:
        """The check found ``cards``; the main container runs and is ready since ``at``."""
        self.run_pod(self.only(), at, cards, model)

    def run_pod(
        self, pod: Json, at: datetime, cards: int, model: str = "NVIDIA-H100-80GB-HBM3"
    ) -> None:
        """The same for one of several."""
        pod["spec"]["nodeName"] = "node-1"
        self._status(
            pod, "Running", check=self._passed(cards, model), main={"running": {}}, ready=at
        )

    def crash(self) -> None:
        """The program in the only pod ended; the kubelet will start it again."""
        pod = self.only()
        ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
        self._status(
            pod, "Running", check=pod["status"]["initContainerStatuses"][0]["state"], main=ended
        )

    def bind(self, node: str = "") -> None:
        """Every claim is bound; ``node``: to a disk of that one."""
        for claim in self.claims.values():
            size = claim["spec"]["resources"]["requests"]["storage"]
            claim["status"] = {"phase": "Bound", "capacity": {"storage": size}}
            if node:
                noted = {"volume.kubernetes.io/selected-node": node}
                claim["metadata"]["annotations"] = noted
            self._touch(claim)

    def _passed(self, cards: int, model: str = "NVIDIA-H100-80GB-HBM3") -> Json:
        devices = [{"uid": f"GPU-{n}", "model": model, "memory_mib": 81559} for n in range(cards)]
        message = json.dumps({"devices": devices})
        return {"terminated": {"exitCode": 0, "message": message}}

    def _status(
        self,
        pod: Json,
        phase: str,
        *,
        check: Json,
        main: Json | None = None,
        ready: datetime | None = None,
    ) -> None:
        stamp = ready.strftime("%Y-%m-%dT%H:%M:%SZ") if ready else "2026-03-01T11:00:00Z"
        pod["status"] = {
            "phase": phase,
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(bool(ready)), "lastTransitionTime": stamp},
            ],
            "initContainerStatuses": [{"name": "gpuyard-check", "state": check}],
            "containerStatuses": [
                {
                    "name": "main",
                    "state": main or {"waiting": {"reason": "PodInitializing"}},
                    "restartCount": 0,
                    "containerID": "containerd://1" if main else "",
                }
            ],
        }
        self._touch(pod)

    def _touch(self, pod: Json) -> None:
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)

    # -- what the loops ask ------------------------------------------------------------------

    def create_pod(self, namespace: str, body: Json) -> Json:
        self._answer()
        key = (namespace, body["metadata"]["name"])
        if key in self.pods:
            raise Rejected("exists", "the name is taken")
        pod = copy.deepcopy(body)
        pod["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4())}
        pod["status"] = {"phase": "Pending", "conditions": []}
        self._touch(pod)
        self.pods[key] = pod
        self.created += 1
        return copy.deepcopy(pod)

    def get_pod(self, namespace: str, name: str) -> Json:
        self._answer()
        if (namespace, name) not in self.pods:
            raise Rejected("not_found", "no such pod")
        return copy.deepcopy(self.pods[namespace, name])

    def delete_pod(self, namespace: str, name: str, *, uid: str | None, grace: int) -> Json:
        """Answers with the pod as it was; it is gone right after."""
        shown = self.get_pod(namespace, name)
        if uid is not None and shown["metadata"]["uid"] != uid:
            raise Rejected("conflict", "another uid")
        del self.pods[namespace, name]
        self.graces.append(grace)
        return shown

    def list_pods(self, namespace: str) -> tuple[list[Json], str]:
        self._answer()
        found = [pod for (place, _), pod in self.pods.items() if place == namespace]
        return copy.deepcopy(found), str(self._version)

    def watch_pods(
        self, namespace: str, version: str, *, silence: float, seconds: float
    ) -> Iterator[Json]:
        raise NotImplementedError("the flows are driven by lists")

    def create_secret(self, namespace: str, body: Json) -> None:
        self._answer()
        self.secrets.setdefault((namespace, body["metadata"]["name"]), body)

    def delete_secret(self, namespace: str, name: str) -> None:
        self._answer()
        self.secrets.pop((namespace, name), None)

    def create_claim(self, namespace: str, body: Json) -> Json:
        self._answer()
        key = (namespace, body["metadata"]["name"])
        if key in self.claims:
            raise Rejected("exists", "the name is taken")
        claim = copy.deepcopy(body)
        claim["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4())}
        claim["status"] = {"phase": "Pending"}
        self._touch(claim)
        self.claims[key] = claim
        return copy.deepcopy(claim)

    def get_claim(self, namespace: str, name: str) -> Json:
        self._answer()
        if (namespace, name) not in self.claims:
            raise Rejected("not_found", "no such claim")
        return copy.deepcopy(self.claims[namespace, name])

    def patch_claim(self, namespace: str, name: str, body: Json) -> Json:
        """The larger size is asked for; :meth:`bind` makes it there."""
        self.get_claim(namespace, name)
        self.claims[namespace, name]["spec"]["resources"] = body["spec"]["resources"]
        return self.get_claim(namespace, name)

    def delete_claim(self, namespace: str, name: str, *, uid: str | None) -> None:
        """It is gone right after."""
        shown = self.get_claim(namespace, name)
        if uid is not None and shown["metadata"]["uid"] != uid:
            raise Rejected("conflict", "another uid")
        del self.claims[namespace, name]

    def list_claims(self, namespace: str) -> tuple[list[Json], str]:
        self._answer()
        found = [claim for (place, _), claim in self.claims.items() if place == namespace]
        return copy.deepcopy(found), str(self._version)

    def list_storage_classes(self) -> list[Json]:
        raise NotImplementedError("inventory is not part of these flows")

    def create_lease(self, namespace: str, body: Json) -> str:
        self._answer()
        key = (namespace, body["metadata"]["name"])
        return "" if key in self.leases else self._keep(key, body)

    def lease_version(self, namespace: str, name: str) -> str:
        self._answer()
        if (namespace, name) not in self.leases:
            raise Rejected("not_found", "no such lease")
        return str(self.leases[namespace, name]["metadata"]["resourceVersion"])

    def replace_lease(self, namespace: str, body: Json) -> str:
        key = (namespace, body["metadata"]["name"])
        if body["metadata"].get("resourceVersion") != self.lease_version(*key):
            raise Rejected("conflict", "another version")
        return self._keep(key, body)

    def delete_lease(self, namespace: str, name: str) -> None:
        self._answer()
        self.leases.pop((namespace, name), None)

    def _keep(self, key: tuple[str, str], body: Json) -> str:
        kept = copy.deepcopy(body)
        self._touch(kept)
        self.leases[key] = kept
        return str(self._version)

    def reaper_lease(self) -> Json:
        raise NotImplementedError("inventory is not part of these flows")

    def pod_log(self, namespace: str, name: str, **asked: Any) -> tuple[bytes, bool]:
        self._answer()
        return b"", False

    def follow_log(self, namespace: str, name: str, **asked: Any) -> Iterator[bytes]:
        raise NotImplementedError("nobody follows a log in these flows")

    def list_nodes(self) -> list[Json]:
        raise NotImplementedError("inventory is not part of these flows")

    def list_events(self, namespace: str) -> list[Json]:
        raise NotImplementedError("probes are not part of these flows")

    def server_version(self) -> str:
        self._answer()
        return "v1.20.2"

    def may_create_pods(self, namespace: str) -> bool:
        self._answer()
        return True

    def renew_token(self, *, seconds: int) -> tuple[str, str]:
        raise NotImplementedError("tokens are not part of these flows")

    def _answer(self) -> None:
        if self.down:
            raise TemporaryError("connection refused")
