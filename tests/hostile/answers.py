"""What a server says when it answers in the right form and means harm: one body per kind of call.

`plausible` is an answer that passes as the right one, with every text in it the given one.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.hostile.wire import Asked

Json = dict[str, Any]

# Of the bodies that are large on purpose.
MIB = 1 << 20


def kind_of(asked: Asked) -> str:
    """Which call of the product this is, by its address."""
    path = asked.path.partition("?")[0]
    for kind, form in (
        ("version", r"/version/?$"),
        ("nodes", r"/nodes$"),
        ("log", r"/log$"),
        ("access", r"selfsubjectaccessreviews$"),
        ("rules", r"selfsubjectrulesreviews$"),
        ("token", r"/serviceaccounts/[^/]+/token$"),
        ("lease", r"/leases(/|$)"),
        ("classes", r"/storageclasses$"),
        ("policies", r"/networkpolicies$"),
        ("claims", r"/persistentvolumeclaims$"),
    ):
        if re.search(form, path):
            return kind
    return "pods" if path.endswith("/pods") and asked.method == "GET" else "object"


def plausible(asked: Asked, text: str) -> Json:
    """The right form with hostile words."""
    meta = {
        "name": text,
        "namespace": text,
        "uid": text,
        "resourceVersion": text,
        "creationTimestamp": text,
        "labels": {"gpuyard.io/pool": "rental", "gpuyard.io/instance": text, text: text},
        "annotations": {"gpuyard.io/version": text, text: text},
    }
    made: dict[str, Json] = {
        "version": {"gitVersion": text, "major": text, "minor": text},
        "nodes": _list("NodeList", [_node(meta, text)]),
        "pods": _list("PodList", [_pod(meta, text)]),
        "claims": _list("PersistentVolumeClaimList", [{"metadata": meta, "status": text}]),
        "classes": _list("StorageClassList", [{"metadata": meta, "provisioner": text}]),
        "policies": _list("NetworkPolicyList", [{"metadata": meta, "spec": {"podSelector": text}}]),
        "access": {"status": {"allowed": True, "reason": text}},
        "rules": {"status": {"resourceRules": [{"verbs": [text], "resources": [text]}] * 50}},
        "token": {"status": {"token": text, "expirationTimestamp": text}},
        "lease": {"metadata": meta, "spec": {"renewTime": text, "holderIdentity": text}},
    }
    return made.get(kind_of(asked), _pod(meta, text))


def _list(kind: str, items: list[Json]) -> Json:
    return {"kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}


def _node(meta: Json, text: str) -> Json:
    offered = {"nvidia.com/gpu": "8", "cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti"}
    return {
        "metadata": meta,
        "spec": {"taints": [{"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {**offered, text: text},
            "allocatable": offered,
            "conditions": [{"type": "Ready", "status": "True", "message": text}],
            "nodeInfo": {"kubeletVersion": text},
        },
    }


def _pod(meta: Json, text: str) -> Json:
    ended = {"terminated": {"message": text, "reason": text, "exitCode": text}}
    status = {"name": "main", "state": ended, "lastState": ended, "restartCount": text}
    return {
        "metadata": meta,
        "spec": {"nodeName": text},
        "status": {
            "phase": text,
            "reason": text,
            "message": text,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": text}],
            "containerStatuses": [status],
            "initContainerStatuses": [{**status, "name": "gpuyard-check"}],
        },
    }


def wrong_types(_: Asked) -> bytes:
    """Each field another type than the right one."""
    wrong: Json = {
        "gitVersion": {"a": "x" * 10_000},
        "metadata": ["x"],
        "items": {"a": ["x"]},
        "status": {"allowed": "true", "resourceRules": {"a": 1}, "token": 7},
        "spec": 7,
    }
    return json.dumps(wrong).encode()


# --- bombs: small on the line, large in memory ----------------------------------------------------


def many_empty(_: Asked) -> bytes:
    """A page of four million bytes that becomes a million objects."""
    return b'{"items":[' + b"{}," * (MIB // 1) + b"{}]}"


def many_keyed(_: Asked) -> bytes:
    return b'{"items":[' + b'{"a":1},' * (MIB // 2) + b"{}]}"


def many_nodes(_: Asked) -> bytes:
    node = json.dumps(
        {"metadata": {"name": "n", "uid": "u", "labels": {"gpuyard.io/pool": "rental"}}}
    )
    return b'{"items":[' + (node.encode() + b",") * (MIB // len(node)) + node.encode() + b"]}"


def full_page(asked: Asked) -> bytes:
    """As many nodes as were asked for, each with as much as a label may have."""
    told = re.search(r"limit=(\d+)", asked.path)
    limit = int(told[1]) if told else 1
    number = asked.rng.randrange(10**9)
    labels = {f"{number}/{key}{'k' * 250}": "v" * 63 for key in range(80)}
    labels["gpuyard.io/pool"] = "rental"
    items = [
        {"metadata": {"name": f"n{number}-{each}", "uid": f"{each}", "labels": labels}}
        for each in range(min(limit, 50))
    ]
    return json.dumps({"items": items, "metadata": {"continue": "more"}}).encode()


def astral(_: Asked) -> bytes:
    """One character beyond the basic plane: every other one of the text takes four bytes."""
    return b'{"gitVersion":"' + "\U0001f600".encode() + b"x" * (3 * MIB) + b'"}'


def many_floats(_: Asked) -> bytes:
    return b'{"items":[' + b"1.5," * (MIB // 2) + b"1]}"


def many_names(_: Asked) -> bytes:
    """Objects of one key each, every key another one: nothing can be shared."""
    return b'{"items":[' + b",".join(b'{"%x":0}' % number for number in range(250_000)) + b"]}"


def deep(_: Asked) -> bytes:
    return b'{"a":' * 100_000 + b"1" + b"}" * 100_000


def long_integer(_: Asked) -> bytes:
    return b'{"gitVersion":' + b"9" * 50_000 + b',"items":[]}'
