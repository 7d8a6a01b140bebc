"""Orders for faults of a simulated API server: what goes wrong with which requests, how often.

An order matches by method (WATCH for a watch, GET for other reads) and path, both patterns with
`*`. It lets the first `skip` matches pass, hits `times` of those that follow (0: until it is
withdrawn), and each of them with the probability `rate`, drawn from a generator with the order's
own `seed`: a storm that can be had again.

What has happened when the client sees it:

- error, conflict, expired, throttle, redirect    nothing
- error_after           the effect, then a 5xx
- cut_before, cut_after           no answer: nothing happened, or the effect did
- hang_before, hang_after         the same, but the connection stays open and silent `seconds` long
- empty_list            a 200 whose list has no items
- drip                  the answer, one byte every `seconds`
- bomb, gzip            `size` bytes of JSON; a compressed answer of that size that nobody asked for

Of watches that match, also those already open: drop_watch (cut at once, later ones at their next
event), silent_watch (no byte more on an open connection, also after the order was withdrawn),
lose_event, double_event (both counted by event).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import random
import threading
from collections.abc import Mapping
from typing import Any

# Kind -> its parameters with their defaults, whose types are enforced.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "error": {"status": 500, "reason": "InternalError", "message": "ordered by a test"},
    "error_after": {"status": 500, "reason": "InternalError", "message": "ordered by a test"},
    "conflict": {"reason": "AlreadyExists"},
    "expired": {},
    "throttle": {"retry_after": 1},
    "redirect": {"location": "https://203.0.113.1/"},
    "cut_before": {},
    "cut_after": {},
    "hang_before": {"seconds": 60.0},
    "hang_after": {"seconds": 60.0},
    "empty_list": {},
    "drip": {"seconds": 1.0},
    "bomb": {"size": 16 * 1024 * 1024},
    "gzip": {"size": 16 * 1024 * 1024},
    "drop_watch": {},
    "silent_watch": {},
    "lose_event": {},
    "double_event": {},
}
_COUNTED = frozenset({"drop_watch", "lose_event", "double_event"})
WATCH_KINDS = _COUNTED | {"silent_watch"}
_MATCH: Mapping[str, Any] = {
    "method": "*", "path": "*", "skip": 0, "times": 1, "rate": 1.0, "seed": 0
}  # fmt: skip


class OrderError(ValueError):
    """The order makes no sense; the message says which part."""


@dataclasses.dataclass
class ApiFault:
    """One order with its count; `params` complete with defaults."""

    id: int
    kind: str
    match: Mapping[str, Any]
    params: Mapping[str, Any]
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.match["seed"])

    def fits(self, method: str, path: str) -> bool:
        return fnmatch.fnmatchcase(method, self.match["method"]) and fnmatch.fnmatchcase(
            path, self.match["path"]
        )

    def hit(self) -> bool:
        """Count one match; whether it is hit."""
        self.seen += 1
        if self.seen <= self.match["skip"] or 0 < self.match["times"] <= self.hits:
            return False
        if self._random.random() >= self.match["rate"]:
            return False
        self.hits += 1
        return True

    def json(self) -> dict[str, Any]:
        fields = ("id", "kind", "match", "params", "seen", "hits")
        return {name: getattr(self, name) for name in fields}


class ApiFaults:
    """All standing orders of one server; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._standing: dict[int, ApiFault] = {}

    def place(self, kind: str, match: Mapping[str, Any], params: Mapping[str, Any]) -> ApiFault:
        """Add an order. Raises OrderError."""
        if kind not in KINDS:
            raise OrderError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
        complete = _complete("match", _MATCH, match)
        if not 0.0 <= complete["rate"] <= 1.0:
            raise OrderError("match.rate lies between 0 and 1")
        fault = ApiFault(next(self._ids), kind, complete, _complete("params", KINDS[kind], params))
        with self._lock:
            self._standing[fault.id] = fault
        return fault

    def withdraw(self, order_id: int) -> bool:
        """Remove an order; False when there is none with that id."""
        with self._lock:
            return self._standing.pop(order_id, None) is not None

    def clear(self) -> None:
        with self._lock:
            self._standing.clear()

    def standing(self) -> list[ApiFault]:
        """Oldest first."""
        with self._lock:
            return list(self._standing.values())

    def for_request(self, method: str, path: str) -> ApiFault | None:
        """The first order that hits this request; every matching one before it is counted."""
        with self._lock:
            for fault in self._standing.values():
                if fault.kind not in WATCH_KINDS and fault.fits(method, path) and fault.hit():
                    return fault
        return None

    def for_event(self, path: str) -> ApiFault | None:
        """The first order that hits this event of a watch, or this watch when one is placed."""
        with self._lock:
            for fault in self._standing.values():
                if fault.kind in _COUNTED and fault.fits("WATCH", path) and fault.hit():
                    return fault
        return None

    def silences(self, path: str) -> bool:
        """Whether an order stands that makes this watch silent."""
        with self._lock:
            return any(
                fault.kind == "silent_watch" and fault.fits("WATCH", path)
                for fault in self._standing.values()
            )

    def drops(self, path: str) -> bool:
        """Whether an order cuts this watch, which is open."""
        with self._lock:
            return any(
                fault.kind == "drop_watch" and fault.fits("WATCH", path) and fault.hit()
                for fault in self._standing.values()
            )


def _complete(part: str, defaults: Mapping[str, Any], given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not set(given) <= set(defaults):
        raise OrderError(f"{part} takes {', '.join(defaults) or 'nothing'}")
    for key, value in given.items():
        wanted = (int, float) if isinstance(defaults[key], float) else type(defaults[key])
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise OrderError(f"{part}.{key} is a {type(defaults[key]).__name__}")
    return {**defaults, **given}
