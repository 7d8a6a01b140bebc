"""Pods as a kubelet reports them, for decisions without a cluster."""

from __future__ import annotations

import json
from typing import Any

from provisioner.kube.pods import PodFacts, facts

H100 = "NVIDIA-H100-80GB-HBM3"
INSTANCE = "ins_01h00000000000000000000000"


def report(count: int = 1, model: str = H100, memory_mib: int = 81559) -> str:
    devices = [{"uid": f"GPU-{i}", "model": model, "memory_mib": memory_mib} for i in range(count)]
    return json.dumps({"devices": devices})


def pod_json(
    *,
    uid: str = "uid-1",
    version: int = 10,
    phase: str = "Pending",
    ready: bool = False,
    ready_since: str = "2026-11-01T10:00:00Z",
    scheduled: bool = True,
    refused: str = "",
    check: dict[str, Any] | None = None,
    main: dict[str, Any] | None = None,
    restarts: int = 0,
    container: str = "containerd://1",
    deleting: bool = False,
    reason: str = "",
) -> dict[str, Any]:
    """``check`` and ``main`` are the containers' states, e.g. {"running": {}}."""
    conditions = [
        {"type": "Ready", "status": str(ready), "lastTransitionTime": ready_since},
        {"type": "PodScheduled", "status": str(scheduled)},
    ]
    if refused:
        conditions[1] |= {"status": "False", "reason": "Unschedulable", "message": refused}
    return {
        "metadata": {
            "name": "gy-1",
            "namespace": "gpuyard-r-01",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"gpuyard.io/instance": INSTANCE},
            **({"deletionTimestamp": "2026-11-01T10:05:00Z"} if deleting else {}),
        },
        "spec": {"nodeName": "node-1"} if scheduled and not refused else {},
        "status": {
            "phase": phase,
            "reason": reason,
            "conditions": conditions,
            "initContainerStatuses": [{"name": "gpuyard-check", "state": check or {}}],
            "containerStatuses": [
                {
                    "name": "main",
                    "state": main or {"waiting": {"reason": "PodInitializing"}},
                    "restartCount": restarts,
                    "containerID": container if main else "",
                }
            ],
        },
    }


def pod(**given: Any) -> PodFacts:
    found = facts(pod_json(**given))
    assert found is not None
    return found


def checked(message: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": 0, "message": message}}


def running_pod(message: str | None = None, **given: Any) -> PodFacts:
    given = {"phase": "Running", "ready": True, "main": {"running": {}}, **given}
    return pod(check=checked(report() if message is None else message), **given)
