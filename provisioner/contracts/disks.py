"""Disks as far as they are metered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class DiskView:
    """A volume at one size. running_since: it is there, and proven; over: it never will be again,
    yet windows of it may still follow."""

    ref: UUID
    running_since: datetime | None
    over: bool
