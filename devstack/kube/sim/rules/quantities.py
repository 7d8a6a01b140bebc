"""Kubernetes quantities (`1500m`, `64Gi`, `2`) as exact integers of a thousandth. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from decimal import Decimal

_QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$")
_FACTORS: Mapping[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


@functools.lru_cache(maxsize=4096)  # a scheduler reads the same few hundred again and again
def milli(text: str | int | float) -> int:
    """The quantity in thousandths, rounded up. Raises ValueError."""
    found = _QUANTITY.match(str(text))
    if not found:
        raise ValueError(f"not a quantity: {text!r}")
    suffix = found[2] or ""
    if suffix[:1] in {"e", "E"} and len(suffix) > 1:
        value = Decimal(found[1] + suffix)
    else:
        value = Decimal(found[1]) * _FACTORS[suffix]
    return int((value * 1000).to_integral_value(rounding="ROUND_CEILING"))
