"""Money as integers of micro-units (1 USD = 1,000,000); decimal strings outside; no float.

Stripe speaks minor units (cents); crossing over is explicit and refuses to lose a remainder.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

MICRO = 1_000_000
MICRO_PER_MINOR = 10_000
MAX_MICRO = 10**15  # a thousand million USD: any larger amount in a request is a mistake
CURRENCY = "USD"


class BadAmount(ValueError):
    """The text is no amount of money this platform can represent."""


def parse_micro(text: object) -> int:
    """``"0.65"`` -> 650000. Accepts plain decimal strings only; raises BadAmount otherwise."""
    if not isinstance(text, str) or len(text) > 32:
        raise BadAmount('write money as a decimal string such as "0.6500"')
    if not all(letter in "0123456789.-" for letter in text):
        raise BadAmount('write money as a decimal string such as "0.6500"')
    try:
        value = Decimal(text) * MICRO
    except InvalidOperation as error:
        raise BadAmount('write money as a decimal string such as "0.6500"') from error
    if value != value.to_integral_value():
        raise BadAmount("at most six decimal places")
    if abs(value) > MAX_MICRO:
        raise BadAmount("the amount is too large")
    return int(value)


def format_micro(micro: int, *, places: int = 4) -> str:
    """650000 -> ``"0.6500"``. More places are shown when fewer would hide a part of the value."""
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), MICRO)
    digits = f"{rest:06d}"
    keep = max(places, len(digits.rstrip("0")))
    return f"{sign}{whole}.{digits[:keep]}" if keep else f"{sign}{whole}"


def to_minor(micro: int) -> int:
    """Micro-units to minor units; raises BadAmount when a part of a cent would vanish."""
    minor, rest = divmod(micro, MICRO_PER_MINOR)
    if rest:
        raise BadAmount(f"{micro} micro-units are not whole cents")
    return minor


def from_minor(minor: int) -> int:
    """Minor units (cents) to micro-units."""
    return minor * MICRO_PER_MINOR
