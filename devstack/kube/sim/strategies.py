"""What is special about each kind when it is written: defaults, checks, what is fixed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from devstack.kube.sim import kinds
from devstack.kube.sim.errors import StatusError, bad_request, conflict, invalid, not_simulated
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules import pods

Json = dict[str, Any]

PROTECTED = "kubernetes.io/pvc-protection"
# Of a pod only these may change after its creation; tolerations may only be added to.
_FREE_POD_FIELDS = frozenset({"activeDeadlineSeconds", "tolerations"})
_FIXED_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def prepared(kind: Kind, body: Json) -> Json:
    """A new object with its defaults. Raises StatusError for one that makes no sense."""
    body = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
    make = _PREPARE.get(kind)
    return make(body) if make else body


def problem(kind: Kind, body: Json) -> StatusError | None:
    """What validation says of a new object."""
    found = pods.name_problem(kind.kind, body["metadata"])
    if found is None and kind is kinds.PODS:
        found = pods.problem(body)
    return found


def updated(kind: Kind, old: Json, new: Json, *, status: bool) -> Json:
    """`new` with what a write of this kind must leave alone, taken from `old`.

    `status`: whether the status subresource was written, and so nothing else changes. Raises
    StatusError for a change of what is fixed.
    """
    name = old["metadata"]["name"]
    metadata = _metadata(kind, old["metadata"], new.get("metadata") or {})
    if status:
        return {**old, "metadata": metadata, "status": new.get("status") or {}}
    result = {**new, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    if "status" in kind.subresources:
        result.pop("status", None)
        if "status" in old:
            result["status"] = old["status"]
    if kind is kinds.PODS and (fields := _changed_pod_fields(old["spec"], result.get("spec"))):
        why = f"spec: Forbidden: pod updates may not change fields other than {fields}"
        raise invalid(kind.kind, name, why)
    if kind is kinds.SECRETS:
        if old["type"] != result.get("type", old["type"]):
            raise invalid(kind.kind, name, "type: field is immutable")
        result = _secret(result)
    return result


def _metadata(kind: Kind, old: Json, new: Json) -> Json:
    uid = new.get("uid", old["uid"])
    if uid != old["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['uid']}"
        raise conflict(kind.key, old["name"], why)
    fixed = {key: old[key] for key in _FIXED_METADATA if key in old}
    written = {key: value for key, value in new.items() if key not in _FIXED_METADATA}
    head = {"name": old["name"], "resourceVersion": old["resourceVersion"]}
    if "namespace" in old:
        head["namespace"] = old["namespace"]
    return {**written, **head, **fixed}


def _changed_pod_fields(old: Json, new: Json | None) -> str:
    """The names of what a pod's spec may change, when it changes something else; else empty."""

    def fixed(spec: Json) -> Json:
        kept = {key: value for key, value in spec.items() if key not in _FREE_POD_FIELDS}
        for field in ("containers", "initContainers"):
            if field in kept:
                kept[field] = [{**each, "image": ""} for each in kept[field]]
        return kept

    if new is not None and fixed(old) == fixed(new):
        return ""
    return (
        "`spec.containers[*].image`, `spec.initContainers[*].image`, "
        "`spec.activeDeadlineSeconds` or `spec.tolerations` (only additions to existing "
        "tolerations)"
    )


def _secret(body: Json) -> Json:
    data = dict(body.get("data") or {})
    for key, text in (body.get("stringData") or {}).items():
        data[key] = base64.b64encode(text.encode()).decode()
    for value in data.values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise bad_request(f'Secret in version "v1" cannot be handled: {error}') from error
    rest = {key: value for key, value in body.items() if key != "stringData"}
    return {**rest, "type": body.get("type") or "Opaque", "data": data}


def _claim(body: Json) -> Json:
    metadata = {**body["metadata"], "finalizers": [PROTECTED]}
    spec = {"volumeMode": "Filesystem", **body.get("spec", {})}
    if not spec.get("accessModes"):
        raise invalid(
            body["kind"],
            str(metadata.get("name", "")),
            "spec.accessModes: Required value: at least 1 access mode is required",
        )
    return {**body, "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def _service(body: Json) -> Json:
    spec = {"type": "ClusterIP", "sessionAffinity": "None", **body.get("spec", {})}
    if spec["type"] == "NodePort":
        raise not_simulated("NodePorts")
    if not spec.get("ports") and spec.get("clusterIP") != "None":
        name = str(body["metadata"].get("name", ""))
        raise invalid(body["kind"], name, "spec.ports: Required value")
    ports = [{"protocol": "TCP", "targetPort": p["port"], **p} for p in spec.get("ports", [])]
    return {**body, "spec": {**spec, "ports": ports}, "status": {"loadBalancer": {}}}


def _event(body: Json) -> Json:
    involved = (body.get("involvedObject") or {}).get("namespace", "")
    if involved and involved != body["metadata"].get("namespace"):
        name = str(body["metadata"].get("name", ""))
        why = f'involvedObject.namespace: Invalid value: "{involved}": does not match namespace'
        raise invalid(body["kind"], name, why)
    return body


def _namespace(body: Json) -> Json:
    return {**body, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


_PREPARE: Mapping[Kind, Callable[[Json], Json]] = {
    kinds.PODS: pods.defaulted,
    kinds.SECRETS: _secret,
    kinds.CLAIMS: _claim,
    kinds.SERVICES: _service,
    kinds.EVENTS: _event,
    kinds.NAMESPACES: _namespace,
    kinds.QUOTAS: lambda body: {**body, "status": {}},
}
