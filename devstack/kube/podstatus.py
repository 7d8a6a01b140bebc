"""Pure pieces of a pod's status as a kubelet with containerd writes them."""

from __future__ import annotations

import datetime
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from devstack.kube.api import Json
from devstack.kube.fleet import Card

CHECK_CONTAINER = "gpuyard-check"
# What the kubelet keeps of a termination message.
_MESSAGE_LIMIT = 4096


def timestamp() -> str:
    """Now, in whole seconds as the API server stores it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp() -> str:
    """Now, as leases have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cards_requested(spec: Mapping[str, Any], resource: str) -> int:
    """Cards the kubelet sets aside for a pod: init containers run before the others, so their
    cards are used again, and a pod needs the larger of both."""
    main = sum(limit_of(container, resource) for container in spec["containers"])
    init = [limit_of(container, resource) for container in spec.get("initContainers", [])]
    return max([main, *init])


def limit_of(container: Mapping[str, Any], resource: str) -> int:
    return int(container.get("resources", {}).get("limits", {}).get(resource, 0))


def proof(card: Card, uids: Sequence[str], *, model: str, memory_mib: int) -> str:
    """What the checking container reports about the cards it sees, as compact JSON."""
    told = memory_mib if card.tells_memory else None
    devices = [{"uid": uid, "model": model, "memory_mib": told} for uid in uids]
    report = {"devices": devices, "driver": card.driver, "cuda": card.cuda}
    return json.dumps(report, separators=(",", ":"))[:_MESSAGE_LIMIT]


def proven_uids(status: Mapping[str, Any]) -> list[str]:
    """Device ids in the report of a pod that passed its check; empty when there is none."""
    for container in status.get("initContainerStatuses", []):
        if container["name"] != CHECK_CONTAINER:
            continue
        message = container.get("state", {}).get("terminated", {}).get("message", "")
        try:
            return [device["uid"] for device in json.loads(message)["devices"]]
        except (ValueError, KeyError, TypeError):  # an order for a bad proof made it
            return []
    return []


def image_id(image: str) -> str:
    """The repository with its digest. An image named by tag gets one derived from its name."""
    repository, _, digest = image.partition("@")
    if not digest:
        digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
    last = repository.rpartition("/")[2]
    if ":" in last:
        repository = repository[: -len(last)] + last.partition(":")[0]
    first = repository.partition("/")[0]
    if "/" not in repository:
        repository = f"docker.io/library/{repository}"
    elif not ("." in first or ":" in first or first == "localhost"):
        repository = f"docker.io/{repository}"
    return f"{repository}@{digest}"


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def container_status(container: Mapping[str, Any], reason: str) -> Json:
    """Status of a container that has not started."""
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": waiting(reason),
        "lastState": {},
    }


def start_container(status: Json) -> None:
    """The container runs from now on."""
    if "terminated" in status["state"]:
        status["lastState"] = status["state"]
    status["imageID"] = image_id(status["image"])
    status["containerID"] = f"containerd://{secrets.token_hex(32)}"
    status["started"] = True
    status["state"] = {"running": {"startedAt": timestamp()}}


def end_container(status: Json, exit_code: int, message: str = "") -> None:
    """The running container ends now; one that never started stays as it is."""
    running = status["state"].get("running")
    if running is None:
        return
    status["ready"] = status["started"] = False
    status["state"] = {
        "terminated": {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": running["startedAt"],
            "finishedAt": timestamp(),
            "containerID": status["containerID"],
            **({"message": message} if message else {}),
        }
    }


def back_off(status: Json, delay_s: float, pod_name: str) -> None:
    """A container that ended waits before it is started again."""
    if "terminated" in status["state"]:
        status["lastState"] = status["state"]
    text = f"back-off {delay_s:g}s restarting failed container={status['name']} pod={pod_name}"
    status["state"] = waiting("CrashLoopBackOff", text)


def conditions(
    init: Sequence[Json], main: Sequence[Json], before: Sequence[Mapping[str, Any]]
) -> list[Json]:
    """Initialized, ContainersReady, Ready and PodScheduled; unchanged ones keep their time."""
    unfinished = [c["name"] for c in init if not c["ready"]]
    unready = [c["name"] for c in main if not c["ready"]]
    names = [
        ("Initialized", "ContainersNotInitialized", "incomplete", unfinished),
        ("Ready", "ContainersNotReady", "unready", unready),
        ("ContainersReady", "ContainersNotReady", "unready", unready),
        ("PodScheduled", "", "", []),
    ]
    known = {condition["type"]: condition for condition in before}
    made = []
    for kind, reason, adjective, missing in names:
        status = "False" if missing else "True"
        old = known.get(kind, {})
        condition: Json = {
            "type": kind,
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": old.get("lastTransitionTime")
            if old.get("status") == status
            else timestamp(),
            "reason": reason if missing else None,
            "message": f"containers with {adjective} status: [{' '.join(missing)}]"
            if missing
            else None,
        }
        made.append(condition)
    return made
