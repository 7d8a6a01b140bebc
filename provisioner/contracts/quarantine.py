"""Hosts in quarantine, as they cross the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class QuarantinedView:
    """text: what was found instead of what the labels say."""

    cluster_id: UUID
    node_id: UUID
    name: str
    at: datetime
    text: str
