"""What is kept of large answers: the parts that somebody reads, within bounds. PURE.

A hostile server's page of two megabytes can become a hundred of objects, and pages come as long as
a list may last, so a list keeps no more of each item than is read of it (inventory, preflight,
pods). Kubernetes' own bounds on labels are applied: what is beyond them is no label.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Json = dict[str, Any]

_POOL = "gpuyard.io/pool"
_LABEL_KEY, _LABEL_VALUE = 317, 63
_ENTRIES = 64  # taints, conditions, resources; real nodes have a dozen
_LABELS = 256
_TEXT = 400
# Of a value in memory, beside its characters.
EACH = 120


def node(item: Json) -> Json:
    """Name, labels, taints, resources and conditions; of one that is not set aside for us, of which
    a cluster has thousands, its name and taints."""
    meta, spec, status = (_map(item.get(part)) for part in ("metadata", "spec", "status"))
    named = _texts(meta, ("name", "uid"))
    taints = _each(spec.get("taints"), ("key", "value", "effect"))
    if _POOL not in _map(meta.get("labels")):
        return {"metadata": named, "spec": {"taints": taints}}
    return {
        "metadata": {**named, "labels": {**_labels(meta["labels"]), _POOL: meta["labels"][_POOL]}},
        "spec": {"unschedulable": bool(spec.get("unschedulable")), "taints": taints},
        "status": {
            "capacity": _resources(status.get("capacity")),
            "allocatable": _resources(status.get("allocatable")),
            "conditions": _each(status.get("conditions"), ("type", "status")),
        },
    }


def pod(item: Json) -> Json:
    """All but what only the server and the pod itself are interested in."""
    meta, spec = _map(item.get("metadata")), _map(item.get("spec"))
    kept = {
        key: value for key, value in meta.items() if key not in ("managedFields", "annotations")
    }
    return {**item, "metadata": kept, "spec": _texts(spec, ("nodeName",))}


def weight(value: object) -> int:
    """About how many bytes a decoded answer takes in memory."""
    total, pending = 0, [value]
    while pending:
        current = pending.pop()
        total += EACH
        if isinstance(current, str):
            total += len(current)
        elif isinstance(current, dict):
            pending.extend(current.values())
            total += sum(map(len, current))
        elif isinstance(current, list):
            pending.extend(current)
    return total


class Allowance:
    """So many bytes for all that a process keeps of lists at the same time. Safe for threads."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One list's part, given back at its end."""
        made = Share(self)
        try:
            yield made
        finally:
            made.has(0)

    def take(self, amount: int) -> bool:
        with self._lock:
            if amount > self._left:
                return False
            self._left -= amount
            return True


class Share:
    def __init__(self, of: Allowance) -> None:
        self._of, self._held = of, 0

    def has(self, amount: int) -> bool:
        """Hold so much from now on; False, and nothing changes, when there is not enough."""
        taken = self._of.take(amount - self._held)
        if taken:
            self._held = amount
        return taken


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _texts(value: Mapping[str, Any], keys: tuple[str, ...]) -> Json:
    """These entries where they are short texts."""
    found = ((key, value.get(key)) for key in keys)
    return {key: text for key, text in found if isinstance(text, str) and len(text) <= _TEXT}


def _labels(value: object) -> Json:
    fitting = (
        (key, text)
        for key, text in _map(value).items()
        if isinstance(text, str) and len(key) <= _LABEL_KEY and len(text) <= _LABEL_VALUE
    )
    return dict(pair for pair, _ in zip(fitting, range(_LABELS), strict=False))


def _resources(value: object) -> Json:
    """Amounts are texts, and numbers where somebody wrote them so."""
    fitting = (
        (key, amount)
        for key, amount in _map(value).items()
        if isinstance(amount, str | int | float)
        and len(key) <= _LABEL_KEY
        and not (isinstance(amount, str) and len(amount) > _LABEL_VALUE)
    )
    return dict(pair for pair, _ in zip(fitting, range(_ENTRIES), strict=False))


def _each(value: object, keys: tuple[str, ...]) -> list[Json]:
    items = value if isinstance(value, list) else []
    return [_texts(_map(item), keys) for item in items[:_ENTRIES]]
