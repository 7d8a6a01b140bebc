"""Whether machines are alike, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class SharingMode(StrEnum):
    """What one sold device is. Slices of a card's time are neither, and are not sold."""

    WHOLE = "whole"
    PARTITION = "partition"  # cut off in hardware, with memory and engines of its own


@dataclass(frozen=True)
class ProvenCard:
    """A device as the check of its machine read it."""

    uid: str
    model: str
    memory_mib: int | None  # None of a part: its profile is in the model's name


@dataclass(frozen=True)
class ProvenMachine:
    """What was proven when it last began to run. Driver and toolkit are what its node's labels
    said then; nothing in a container can prove them."""

    instance_id: UUID
    fingerprint: str
    driver: str | None
    toolkit_max: str | None
    proven_at: datetime
    cards: tuple[ProvenCard, ...]


@dataclass(frozen=True)
class Certificate:
    """``homogeneous`` None: not proven yet of each machine."""

    homogeneous: bool | None
    differences: tuple[str, ...]
    machines: tuple[ProvenMachine, ...]
