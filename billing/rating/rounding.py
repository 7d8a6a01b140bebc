"""Every rounding that billing does, in one place; integers only.

Money is in micro-units, rates in micro-units per hour, durations in whole seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

HOUR = 3600


def charged(rate_micro_h: int, seconds: int) -> int:
    """The cumulative charge of ``seconds``: what they cost, rounded down once in a lifetime."""
    return rate_micro_h * seconds // HOUR


def hold_for(rate_micro_h: int, seconds: int) -> int:
    """What must be held so that ``seconds`` can be charged whatever was charged before."""
    return -(-rate_micro_h * seconds // HOUR)


def seconds_covered(held_micro: int, rate_micro_h: int) -> int:
    """How many further seconds a hold certainly pays; the rate must be positive."""
    return held_micro * HOUR // rate_micro_h


def split_minor(carried_in_micro: int, amounts_micro: Sequence[int], unit: int) -> list[int]:
    """Whole cents per line, such that they add up to the whole cents of the sum.

    ``carried_in_micro`` is the part of a cent left by the invoice before; the part left now is the
    sum minus the cents returned. Each line differs from its exact amount by less than one cent.
    """
    lines: list[int] = []
    exact, taken = carried_in_micro, 0
    for amount in amounts_micro:
        exact += amount
        lines.append(exact // unit - taken)
        taken += lines[-1]
    return lines


def hours_text(seconds: int) -> str:
    """Hours as a decimal string with as many places as tell one second from the next."""
    return f"{(Decimal(seconds) / HOUR).quantize(Decimal('0.000001'))}"
