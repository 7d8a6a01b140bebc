"""What a meter measures."""

from __future__ import annotations

from enum import StrEnum


class MeterKind(StrEnum):
    """Cards of a rental, or one size of a disk. A meter has one price for life."""

    GPU = "gpu"
    DISK = "disk"  # a disk is never stopped for lack of money: what nobody pays is the platform's
