"""Faults on demand, for requests and for webhooks.

A request fault matches by method and path prefix, skips the first `skip` matches and then hits
`times` requests. Kinds, with what has happened at Stripe when the caller sees it:

- rate_limit          429, nothing happened
- error_before        500 (or `status`) before the effect, nothing happened, nothing remembered
- error_after         the effect happened, then 500; the 500 is what the key remembers
- cut_before          connection closed without an answer, nothing happened
- cut_after           the effect happened and is remembered, connection closed without an answer
- delay_before/after  answer held back for `seconds`
- hold_before/after   answer held back until `release` (at most a minute)

Webhook faults match by event type prefix: drop, double, delay (`seconds`), shuffle (collect
`times` events, then deliver them in another order).
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HOLD_LIMIT_S = 60.0
REQUEST_KINDS = frozenset(
    [
        "rate_limit",
        "error_before",
        "error_after",
        "cut_before",
        "cut_after",
        "delay_before",
        "delay_after",
        "hold_before",
        "hold_after",
    ]
)
WEBHOOK_KINDS = frozenset(["drop", "double", "delay", "shuffle"])


class Cut(Exception):
    """Close the connection without an answer."""


@dataclass
class Fault:
    id: int
    kind: str
    method: str | None = None
    path: str = ""
    event: str = ""
    times: int = 1
    skip: int = 0
    status: int = 500
    seconds: float = 0.0
    hits: int = 0
    holding: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def seen(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "method": self.method,
            "path": self.path,
            "event": self.event,
            "times": self.times,
            "skip": self.skip,
            "hits": self.hits,
            "holding": self.holding,
        }


class Faults:
    """The faults that are armed now. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._armed: list[Fault] = []
        self.down: str | None = None  # None, "cut" or "503"

    def arm(self, kind: str, **options: Any) -> int:
        """Arm a fault and return its id; ValueError for an unknown kind or option."""
        if kind not in REQUEST_KINDS | WEBHOOK_KINDS:
            raise ValueError(f"unknown fault {kind}")
        allowed = {"method", "path", "event", "times", "skip", "status", "seconds"}
        if not set(options) <= allowed:
            raise ValueError(f"unknown fault options {sorted(set(options) - allowed)}")
        with self._lock:
            fault = Fault(next(self._ids), kind, **options)
            self._armed.append(fault)
            return fault.id

    def _take(self, fits: Callable[[Fault], bool]) -> list[Fault]:
        with self._lock:
            taken = []
            for fault in self._armed:
                if not fits(fault) or fault.hits >= fault.times:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                taken.append(fault)
            return taken

    def for_request(self, method: str, path: str) -> list[Fault]:
        """Faults that hit this request; each hit is counted."""
        return self._take(
            lambda f: (
                f.kind in REQUEST_KINDS and f.method in (None, method) and path.startswith(f.path)
            )
        )

    def for_event(self, event_type: str) -> list[Fault]:
        """Webhook faults that hit this event; each hit is counted."""
        return self._take(lambda f: f.kind in WEBHOOK_KINDS and event_type.startswith(f.event))

    def hold(self, fault: Fault) -> None:
        """Wait until the fault is released, at most HOLD_LIMIT_S."""
        with self._lock:
            fault.holding += 1
        fault.released.wait(HOLD_LIMIT_S)
        with self._lock:
            fault.holding -= 1

    def release(self) -> int:
        """Let every held request go on; returns how many holds were open."""
        with self._lock:
            held = [f for f in self._armed if "hold" in f.kind and not f.released.is_set()]
            for fault in held:
                fault.released.set()
            return len(held)

    def clear(self) -> None:
        self.release()
        with self._lock:
            self._armed.clear()
            self.down = None

    def seen(self) -> list[dict[str, Any]]:
        with self._lock:
            return [fault.seen() for fault in self._armed]
