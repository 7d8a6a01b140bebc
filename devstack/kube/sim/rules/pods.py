"""Defaults and checks of a new pod. Pure.

Checked is what clients of ours get wrong; a whole schema is the official client's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from devstack.kube.sim.errors import StatusError, invalid
from devstack.kube.sim.rules.patches import copied
from devstack.kube.sim.rules.quantities import milli
from devstack.kube.sim.rules.security import containers

Json = dict[str, Any]

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_COMPUTE = ("cpu", "memory")
# What a real server adds to pods that do not say how long they bear a broken node.
_BEARS_S = 300


def defaulted(body: Json) -> Json:
    """`body` with what the server fills in, and a fresh status."""
    spec = copied(body["spec"])
    for key, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
        ("serviceAccountName", "default"),
        ("enableServiceLinks", True),
        ("securityContext", {}),
        ("priority", 0),
        ("preemptionPolicy", "PreemptLowerPriority"),
    ):
        spec.setdefault(key, value)
    spec["serviceAccount"] = spec["serviceAccountName"]
    for _, container in containers(spec):
        _default_container(container)
    spec["tolerations"] = _tolerations(spec.get("tolerations") or [])
    status = {"phase": "Pending", "qosClass": _quality(spec)}
    return {**body, "spec": spec, "status": status}


def problem(body: Json) -> StatusError | None:
    """The first thing that is wrong with a pod, as the server answers it."""
    for why in _problems(body):
        return invalid("Pod", str(body["metadata"].get("name", "")), why)
    return None


def name_problem(kind: str, metadata: Json) -> StatusError | None:
    """Names and labels that no server stores."""
    name = metadata.get("name")
    if not name:
        why = "metadata.name: Required value: name or generateName is required"
        return invalid(kind, "", why)
    if len(name) > 253 or not _NAME.match(name):
        why = (
            f'metadata.name: Invalid value: "{name}": a DNS-1123 subdomain must consist of lower '
            "case alphanumeric characters, '-' or '.', and must start and end with an "
            "alphanumeric character"
        )
        return invalid(kind, name, why)
    for value in (metadata.get("labels") or {}).values():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.match(value):
            return invalid(kind, name, f'metadata.labels: Invalid value: "{value}"')
    return None


def requests(spec: Json) -> dict[str, int]:
    """What a scheduler sets aside, in thousandths: the sum, or the largest init container."""
    total: dict[str, int] = {}
    for container in spec["containers"]:
        for key, value in container.get("resources", {}).get("requests", {}).items():
            total[key] = total.get(key, 0) + milli(value)
    for container in spec.get("initContainers") or []:
        for key, value in container.get("resources", {}).get("requests", {}).items():
            total[key] = max(total.get(key, 0), milli(value))
    return total


def _problems(body: Json) -> Iterator[str]:
    spec = body["spec"]
    if not spec.get("containers"):
        yield "spec.containers: Required value"
    names = [container.get("name") for _, container in containers(spec)]
    for path, container in containers(spec):
        if not container.get("name"):
            yield f"{path}.name: Required value"
        elif names.count(container["name"]) > 1:
            yield f'{path}.name: Duplicate value: "{container["name"]}"'
        if not container.get("image"):
            yield f"{path}.image: Required value"
        yield from _resource_problems(f"{path}.resources", container.get("resources") or {})


def _resource_problems(path: str, resources: Mapping[str, Any]) -> Iterator[str]:
    limits, asked = resources.get("limits") or {}, resources.get("requests") or {}
    for part, values in (("limits", limits), ("requests", asked)):
        for key, value in values.items():
            try:
                amount = milli(value)
            except ValueError:
                yield f"{path}.{part}[{key}]: Invalid value: {value!r}: must be a quantity"
                return
            if amount < 0:
                yield f"{path}.{part}[{key}]: Invalid value: {value!r}: must be at least 0"
            if _extended(key) and amount % 1000:
                yield f"{path}.{part}[{key}]: Invalid value: {value!r}: must be an integer"
    for key, value in asked.items():
        limit = limits.get(key)
        if _extended(key) and (limit is None or milli(limit) != milli(value)):
            yield f"{path}.requests: Invalid value: {value!r}: must be equal to {key} limit"
        elif limit is not None and milli(value) > milli(limit):
            yield (
                f'{path}.requests: Invalid value: "{value}": '
                f"must be less than or equal to {key} limit"
            )


def _extended(resource: str) -> bool:
    """A device: whole numbers only, and what is requested is the limit."""
    return "/" in resource and not resource.startswith("kubernetes.io/")


def _default_container(container: Json) -> None:
    image = str(container.get("image", ""))
    latest = "@" not in image and image.rpartition("/")[2].partition(":")[2] in {"", "latest"}
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **(resources.get("requests") or {})}
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")


def _tolerations(given: list[Json]) -> list[Json]:
    keys = {toleration.get("key") for toleration in given}
    added = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _BEARS_S}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
        if key not in keys
    ]
    return given + added


def _quality(spec: Json) -> str:
    resources = [container.get("resources", {}) for _, container in containers(spec)]
    parts = [
        (each.get("requests", {}).get(key), each.get("limits", {}).get(key))
        for each in resources
        for key in _COMPUTE
    ]
    if all(asked and limit and milli(asked) == milli(limit) for asked, limit in parts):
        return "Guaranteed"
    return "Burstable" if any(asked or limit for asked, limit in parts) else "BestEffort"
