"""A pod as the API server shows it, read into plain facts. PURE.

The answer may be hostile or newer than we are: a field of an unexpected type reads as missing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from kernel.text import clean
from provisioner.kube.manifests import CHECK, INSTANCE_LABEL, MAIN
from provisioner.kube.probe_pod import PROBE, PROBE_LABEL

Json = dict[str, Any]


@dataclass(frozen=True)
class ContainerFacts:
    """One container: at most one of waiting, running and terminated holds."""

    id: str = ""
    restarts: int = 0
    running: bool = False
    waiting: str = ""  # the kubelet's reason, e.g. ImagePullBackOff
    exit_code: int | None = None
    ended: str = ""  # the kubelet's reason for its last end, e.g. OOMKilled
    message: str = ""


@dataclass(frozen=True)
class PodFacts:
    """What decisions about an instance are made from. Identity is ``uid``."""

    name: str
    namespace: str
    uid: str
    instance: str  # our label, as text
    version: int | None  # resourceVersion
    phase: str
    reason: str
    node: str
    deleting: bool
    scheduled: bool
    unschedulable: str  # the scheduler's sentence, "" if it has not refused
    ready: bool
    ready_since: str  # last transition of Ready, the cluster's own clock
    check: ContainerFacts = field(default_factory=ContainerFacts)
    main: ContainerFacts = field(default_factory=ContainerFacts)
    probe: str = ""  # our label on a probe of ours, which is nobody's instance
    measured: ContainerFacts = field(default_factory=ContainerFacts)  # a probe's only container

    def identity(self) -> dict[str, Any]:
        """Equal before and after a gap: nothing happened to the pod in between."""
        return {
            "container": self.main.id,
            "restarts": self.main.restarts,
            "ready_since": self.ready_since,
        }


@dataclass(frozen=True)
class Device:
    uid: str
    model: str
    memory_mib: int | None  # None: not told, as of a part, whose profile says it
    used_mib: int | None = None  # before anything of this pod ran; None: not told


def facts(pod: object) -> PodFacts | None:
    """Facts of one pod object; None for something without a name and a UID."""
    whole = _map(pod)
    meta, spec, status = (_map(whole.get(part)) for part in ("metadata", "spec", "status"))
    name, uid = _text(meta.get("name"), 253), _text(meta.get("uid"), 64)
    if not name or not uid:
        return None
    conditions = {
        _text(item.get("type"), 40): item
        for item in map(_map, _list(status.get("conditions"))[:32])
    }
    scheduled = _map(conditions.get("PodScheduled"))
    ready = _map(conditions.get("Ready"))
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return PodFacts(
        name=name,
        namespace=_text(meta.get("namespace"), 63),
        uid=uid,
        instance=_text(_map(meta.get("labels")).get(INSTANCE_LABEL), 63),
        version=_version(meta.get("resourceVersion")),
        phase=_text(status.get("phase"), 20),
        reason=_text(status.get("reason"), 60),
        node=_text(spec.get("nodeName"), 253),
        deleting=bool(meta.get("deletionTimestamp")),
        scheduled=scheduled.get("status") == "True" or bool(spec.get("nodeName")),
        unschedulable=_text(scheduled.get("message"), 300) or "unschedulable" if refused else "",
        ready=ready.get("status") == "True",
        ready_since=_text(ready.get("lastTransitionTime"), 40),
        check=_container(status.get("initContainerStatuses"), CHECK),
        main=_container(status.get("containerStatuses"), MAIN),
        probe=_text(_map(meta.get("labels")).get(PROBE_LABEL), 63),
        measured=_container(status.get("containerStatuses"), PROBE),
    )


def proof(message: str) -> list[Device] | None:
    """The devices a check reported, or None when its message is no such report."""
    try:
        rows = _map(json.loads(message)).get("devices")
        if not isinstance(rows, list):
            return None
        return [
            Device(
                str(row["uid"])[:100],
                str(row["model"])[:100],
                None if row["memory_mib"] is None else int(row["memory_mib"]),
                _int(row.get("used_mib")),
            )
            for row in rows[:64]
        ]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def as_evidence(devices: list[Device]) -> Json:
    rows = [asdict(device) for device in devices]
    return {
        "devices": [{key: _clean(v) for key, v in row.items() if v is not None} for row in rows]
    }


def _clean(value: object) -> object:
    return clean(value, limit=100) if isinstance(value, str) else value


def _container(statuses: object, name: str) -> ContainerFacts:
    for item in map(_map, _list(statuses)[:16]):
        if item.get("name") == name:
            state = _map(item.get("state"))
            waiting, ended = _map(state.get("waiting")), _map(state.get("terminated"))
            last = _map(_map(item.get("lastState")).get("terminated"))
            return ContainerFacts(
                id=_text(item.get("containerID"), 200),
                restarts=_int(item.get("restartCount")) or 0,
                running=bool(_map(state.get("running"))) or "running" in state,
                waiting=_text(waiting.get("reason"), 60),
                exit_code=_int((ended or last).get("exitCode")),
                ended=_text((ended or last).get("reason"), 60),
                message=str(ended.get("message") or waiting.get("message") or "")[:4096],
            )
    return ContainerFacts()


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object, limit: int) -> str:
    return clean(value, limit=limit) if isinstance(value, str) else ""


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _version(value: object) -> int | None:
    """resourceVersion as a number, where it is one: to tell an older picture from a newer."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return None
