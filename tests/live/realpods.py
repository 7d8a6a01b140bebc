"""Pods that really run: their creation, their logs, how their containers are."""

from __future__ import annotations

import time
from typing import Any

from devstack.kube.api import Api
from devstack.kube.node.node import RealNode
from tests.live.pods import find, pods_path, until

NAMESPACE = "gpuyard-r-01"
PATIENCE_S = 60.0  # for what takes one or two seconds on an idle machine
ALLOWED = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_CHROOT"]


def a_pod(node: RealNode, image: str, name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A pod of the shape that reaches clusters; `cards` by resource, `main` and `spec` as given."""
    main: dict[str, Any] = spec.pop("main", {})
    cards: dict[str, int] = spec.pop("cards", {})
    limits = {"cpu": "200m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
    limits |= {resource: str(count) for resource, count in cards.items()}
    container = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": limits, "requests": limits},
        "securityContext": {"capabilities": {"drop": ["ALL"], "add": ALLOWED}},
    }
    inits = [{**container, **each} for each in spec.pop("initContainers", [])]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.name]}]}
    required = {"nodeSelectorTerms": [term]}
    tell = {"command": ["/bin/sh", "-c", script]} if script else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Always",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"key": "gpuyard.io/pool", "operator": "Equal", "value": "rental"}],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
            },
            "initContainers": inits,
            "containers": [{**container, "name": "main", **tell, **main}],
            **spec,
        },
    }


def run(admin: Api, pod: dict[str, Any]) -> dict[str, Any]:
    """Create the pod; it, once it is Ready."""
    name = pod["metadata"]["name"]
    began = time.monotonic()
    admin.post(pods_path(NAMESPACE), pod)

    def ready() -> dict[str, Any] | None:
        seen = find(admin, NAMESPACE, name)
        conditions = (seen or {}).get("status", {}).get("conditions", [])
        states = {each["type"]: each["status"] for each in conditions}
        return seen if states.get("Ready") == "True" else None

    try:
        seen: dict[str, Any] = until(f"{name} ready", ready, PATIENCE_S)
    except AssertionError as error:
        events = admin.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
        told = [each["message"] for each in events if each["involvedObject"].get("name") == name]
        raise AssertionError(f"{error}; {find(admin, NAMESPACE, name)}; {told}") from error
    print(f"{name}: ready {time.monotonic() - began:.2f} s after its creation")
    return seen


def log(admin: Api, name: str, **query: str) -> str:
    return admin.text(f"{pods_path(NAMESPACE, name)}/log", container="main", **query)


def logged(admin: Api, name: str, text: str) -> str:
    """The log, once `text` is in it."""
    found: str = until(
        f"{text!r} in the log of {name}",
        lambda: seen if text in (seen := log(admin, name)) else None,
        PATIENCE_S,
    )
    return found


def status_of(admin: Api, name: str) -> dict[str, Any]:
    statuses = ((find(admin, NAMESPACE, name) or {}).get("status", {})).get("containerStatuses")
    return statuses[0] if statuses else {"state": {}, "lastState": {}}


def capabilities(names: list[str]) -> int:
    """Their bits, see capabilities(7)."""
    order = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID"]
    order += ["SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST"]
    order += ["NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO"]
    order += ["SYS_CHROOT"]
    return sum(1 << order.index(name) for name in names)
