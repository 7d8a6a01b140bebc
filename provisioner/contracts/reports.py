"""What the reporter in a pod tells, and what is read from it. Figures of a machine in which the
tenant is root: to show and to stop what is idle, never to charge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

# How often a reporter reports. Half as often and an idle stop of ten minutes rests on few figures;
# twice as often and a thousand rentals write 130 rows a second for nothing that a graph shows.
REPORT_SECONDS: Final = 15
# More cards than any host has, so that a hostile report stays small.
MOST_DEVICES: Final = 64
# A machine that listens at more has other troubles than that its page does not list them.
MOST_LISTENING: Final = 64


@dataclass(frozen=True)
class Reporting:
    """A reporter whose token was checked: the instance that it reports for, and its cards."""

    instance_id: UUID
    gpus: int


@dataclass(frozen=True)
class DeviceReport:
    """One card as its pod sees it; None: not measured."""

    id: str
    gpu_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None = None


@dataclass(frozen=True)
class DiskReport:
    """The machine's own disk."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class InstanceReport:
    """One report. ``at``: by the pod's clock. ``boot``: another one with each start of the pod's
    program, "" where the reporter does not know it."""

    at: datetime
    devices: Sequence[DeviceReport]
    ssh: str | None = None
    disk: DiskReport | None = None
    boot: str = ""
    ports: Sequence[int] | None = None  # at which something listens; None: not told


@dataclass(frozen=True)
class Quiet:
    """Every card was reported to do nothing from the one to the other, without a gap. What comes
    after the last report nobody knows."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class Series:
    """Figures at even steps from ``since`` to ``until``, both multiples of ``step`` seconds; None
    where nothing was reported. ``values``: (name, device) -> one figure per step, with device None
    for the machine's own."""

    since: datetime
    until: datetime
    step: int
    device_ids: Sequence[str]
    values: Mapping[tuple[str, int | None], Sequence[float | None]]
