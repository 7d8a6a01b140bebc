"""A token bucket per key or address, in this process's memory.

Limit: each web process counts for itself, so N processes allow up to N times the rate, and a
restart forgets. That protects a process from a runaway client, which is its purpose; spending is
bounded by money, quotas and the spend limit, which live in the database. Strangers are told apart
by the address of the connection: behind a proxy that is the proxy's, so they share one bucket there
until a setting says whose forwarded addresses to trust.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

# The contract promises 50 requests/s per key. Twice that leaves room for pages that ask for
# several things at once; far more would let one client take a whole process.
RATE = 100.0
# Four seconds' worth at once: 64 scripts that start together are ordinary.
BURST = 400.0
# Beyond this many callers the least recent is forgotten (its bucket is full again by then).
_REMEMBERED = 20_000


class Buckets:
    """Token buckets by name; thread-safe."""

    def __init__(self, *, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, cost: float = 1.0, *, now: float | None = None) -> float:
        """Take ``cost`` tokens: 0.0 when there were enough, else the seconds until there are."""
        moment = time.monotonic() if now is None else now
        with self._lock:
            level, since = self._levels.pop(name, (self._burst, moment))
            level = min(self._burst, level + (moment - since) * self._rate)
            wait = 0.0 if level >= cost else (cost - level) / self._rate
            self._levels[name] = (level if wait else level - cost, moment)
            if len(self._levels) > _REMEMBERED:
                self._levels.popitem(last=False)
        return wait


requests = Buckets()
