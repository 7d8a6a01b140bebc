"""Amounts as Kubernetes writes them ("1500m", "2044Gi"). PURE."""

from __future__ import annotations

import re

_SUFFIX = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def quantity(text: object) -> float:
    """A Kubernetes quantity ("1500m", "2044Gi") as a number; 0 for anything else."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z]{0,2})", str(text))
    if found is None or found.group(2) not in _SUFFIX:
        return 0.0
    return float(found.group(1)) * _SUFFIX[found.group(2)]
