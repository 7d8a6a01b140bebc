"""Stripe's time inside the simulator: real time plus an offset that tests move forward.

Only forward: everything that has happened keeps its time stamp, so lists stay in order.
"""

import threading
import time


class VirtualClock:
    """Seconds since 1970, real rate, with an offset."""

    def __init__(self, offset: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._offset = offset

    def now(self) -> float:
        """Current virtual time in seconds."""
        with self._lock:
            return time.time() + self._offset

    def advance(self, seconds: float) -> float:
        """Jump forward and return the new time; ValueError for a jump back."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        with self._lock:
            self._offset += seconds
            return time.time() + self._offset

    @property
    def offset(self) -> float:
        with self._lock:
            return self._offset
