"""Rental-like pods and waiting for conditions, for the live tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from devstack.kube.api import Api, ApiError

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64


def rental_pod(
    name: str,
    *,
    resource: str = "nvidia.com/gpu",
    cards: int = 1,
    node: str | None = None,
    selector: dict[str, str] | None = None,
    grace_s: int = 10,
) -> dict[str, Any]:
    """A pod of the shape that reaches clusters: checked first, limits on everything, no token."""
    limits = {resource: str(cards), "cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    resources = {"limits": limits, "requests": limits}
    spec: dict[str, Any] = {
        "restartPolicy": "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "tolerations": [{"key": "gpuyard.io/pool", "operator": "Equal", "value": "rental"}],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "nodeSelector": selector or {},
        "initContainers": [{"name": "gpuyard-check", "image": IMAGE, "resources": resources}],
        "containers": [{"name": "main", "image": IMAGE, "resources": resources}],
    }
    if node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"nodeSelectorTerms": [term]}
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def pods_path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def until(what: str, condition: Callable[[], Any], within_s: float = 15.0) -> Any:
    """The first true value of `condition()`; fails the test when none comes in time."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return found


def find(api: Api, namespace: str, name: str) -> dict[str, Any] | None:
    """The pod, or None when it does not exist."""
    try:
        return api.get(pods_path(namespace, name))
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def running(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """The pod once it is Running and Ready."""

    def ready() -> dict[str, Any] | None:
        pod = find(api, namespace, name)
        conditions = (pod or {}).get("status", {}).get("conditions", [])
        states = {condition["type"]: condition["status"] for condition in conditions}
        return pod if states.get("Ready") == "True" else None

    pod: dict[str, Any] = until(f"{name} ready", ready)
    return pod


def remove(api: Api, namespace: str, name: str) -> None:
    """Delete the pod and wait until it is gone; nothing happens when it does not exist."""
    try:
        api.delete(pods_path(namespace, name))
    except ApiError as error:
        if error.status != 404:
            raise
    until(f"{name} gone", lambda: find(api, namespace, name) is None)


def proof(pod: dict[str, Any]) -> dict[str, Any]:
    """What the checking container reported."""
    (check,) = pod["status"]["initContainerStatuses"]
    report: dict[str, Any] = json.loads(check["state"]["terminated"]["message"])
    return report


def main_state(pod: dict[str, Any] | None) -> dict[str, Any]:
    statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
    return statuses[0]["state"] if statuses else {}
