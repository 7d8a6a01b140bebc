"""Orders for faults on simulated nodes: what goes wrong, for which pods or nodes.

An order stays until it is withdrawn. It matches by node, namespace, pod or claim name (a trailing
* means prefix) and labels; what is left out matches everything. The newest matching order wins.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Mapping
from typing import Any

# Kind -> its parameters with their defaults, whose types are enforced. Seconds are wall-clock.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "slow_pull": {"seconds": 30.0},
    "pull_error": {
        "message": "rpc error: code = NotFound desc = failed to pull and unpack image: not found",
        "backoff_s": 10.0,
    },
    "init_failure": {"exit_code": 1, "message": "check failed", "backoff_s": 10.0},
    "crash": {"exit_code": 1, "after_s": 0.2, "backoff_s": 10.0},
    # The check in the pod sees other cards than were given: `missing` fewer, another model or
    # memory, or says `text` instead of its report.
    "wrong_count": {"missing": 1},
    "wrong_model": {"model": "NVIDIA-GeForce-GTX-1060", "memory_mib": 6144},
    "bad_proof": {"text": "not json"},
    # The program prints: `lines` lines at `per_second` (0: all at once) of `text`, where {n} is the
    # line's number, or of the raw bytes in `hex`; a line feed in them begins another line.
    "log": {"text": "step {n}", "hex": "", "lines": 10, "per_second": 0.0},
    "slow_stop": {},  # ignores SIGTERM: needs its whole grace period
    # These two match claims for storage.
    "slow_bind": {"seconds": 30.0},
    "bind_error": {"message": "no space left on the storage pool"},
    # These two match nodes only.
    "lost_gpu": {"cards": 1},
    "silent_node": {},
}
NODE_KINDS = frozenset({"lost_gpu", "silent_node"})
CLAIM_KINDS = frozenset({"slow_bind", "bind_error"})
_CLAIM_KEYS = frozenset({"namespace", "claim", "labels"})
_MATCH_KEYS = frozenset({"node", "namespace", "pod", "labels"})


class OrderError(ValueError):
    """The order makes no sense; the message says which part."""


@dataclasses.dataclass(frozen=True)
class Order:
    """One order: `params` complete with defaults."""

    id: int
    kind: str
    match: Mapping[str, Any]
    params: Mapping[str, Any]

    def fits_node(self, node: str) -> bool:
        return bool(self.match.get("node", node) == node)

    def fits_pod(self, node: str, metadata: Mapping[str, Any]) -> bool:
        return self.fits_node(node) and self._fits(self.match.get("pod", "*"), metadata)

    def fits_claim(self, metadata: Mapping[str, Any]) -> bool:
        return self._fits(self.match.get("claim", "*"), metadata)

    def _fits(self, wanted: str, metadata: Mapping[str, Any]) -> bool:
        if self.match.get("namespace", metadata["namespace"]) != metadata["namespace"]:
            return False
        name = metadata["name"]
        if not (name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted):
            return False
        labels = metadata.get("labels") or {}
        return all(labels.get(key) == value for key, value in self.match.get("labels", {}).items())


class Orders:
    """All standing orders; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._standing: dict[int, Order] = {}

    def place(self, kind: str, match: Mapping[str, Any], params: Mapping[str, Any]) -> Order:
        """Add an order. Raises OrderError."""
        order = Order(next(self._ids), kind, _checked_match(kind, match), _complete(kind, params))
        with self._lock:
            self._standing[order.id] = order
        return order

    def withdraw(self, order_id: int) -> bool:
        """Remove an order; False when there is none with that id."""
        with self._lock:
            return self._standing.pop(order_id, None) is not None

    def clear(self) -> None:
        with self._lock:
            self._standing.clear()

    def standing(self) -> list[Order]:
        """Oldest first."""
        with self._lock:
            return list(self._standing.values())

    def for_pod(self, kind: str, node: str, metadata: Mapping[str, Any]) -> Order | None:
        fitting = [o for o in self.standing() if o.kind == kind and o.fits_pod(node, metadata)]
        return fitting[-1] if fitting else None

    def for_claim(self, kind: str, metadata: Mapping[str, Any]) -> Order | None:
        fitting = [o for o in self.standing() if o.kind == kind and o.fits_claim(metadata)]
        return fitting[-1] if fitting else None

    def for_node(self, kind: str, node: str) -> Order | None:
        fitting = [o for o in self.standing() if o.kind == kind and o.fits_node(node)]
        return fitting[-1] if fitting else None


def _checked_match(kind: str, match: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind not in KINDS:
        raise OrderError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    allowed = {"node"} if kind in NODE_KINDS else _MATCH_KEYS
    allowed = _CLAIM_KEYS if kind in CLAIM_KINDS else allowed
    if not isinstance(match, Mapping) or not set(match) <= allowed:
        raise OrderError(f"match of {kind} takes {', '.join(sorted(allowed))}")
    if not isinstance(match.get("labels", {}), Mapping):
        raise OrderError("match.labels is an object")
    for key in allowed - {"labels"}:
        if not isinstance(match.get(key, ""), str):
            raise OrderError(f"match.{key} is a string")
    return dict(match)


def _complete(kind: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    defaults = KINDS[kind]
    if not isinstance(params, Mapping) or not set(params) <= set(defaults):
        raise OrderError(f"params of {kind} are {', '.join(defaults) or 'none'}")
    for key, value in params.items():
        wanted = (int, float) if isinstance(defaults[key], float) else type(defaults[key])
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise OrderError(f"params.{key} is a {type(defaults[key]).__name__}")
    return {**defaults, **params}
