"""Delays between attempts: exponential with full jitter, pure (randomness is passed in)."""

from __future__ import annotations


def backoff(attempt: int, *, base: float, cap: float, fraction: float) -> float:
    """Seconds to wait before attempt ``attempt`` + 1 (attempts count from 0).

    fraction: a random number in [0, 1). Full jitter spreads a crowd that failed together; the
    floor of half the window keeps a lucky draw from retrying at once.
    """
    window = min(cap, base * 2.0 ** min(attempt, 30))
    return window * (0.5 + 0.5 * fraction)
