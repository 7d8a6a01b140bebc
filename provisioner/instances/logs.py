"""Logs that outlive their instance: which are worth keeping, storing, reading, pruning.

Fetching is the reconcile step's; here is only what concerns the tables. A live instance's log is
read from its host by the streams process and never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from kernel.clock import AppNow
from provisioner.contracts import LogText
from provisioner.instances.loglines import as_text, from_text, lines_of
from provisioner.models import Instance, InstanceLog

# Ends that the renter did not ask for and whose program may have said why. A wish or the money's
# end keeps nothing: whoever ends a machine takes its log before.
WORTH_KEEPING: Final = frozenset(
    {
        "container_exited",
        "bad_command",
        "config_error",
        "start_timeout",
        "gpu_lost",
        "ecc_uncorrectable",
        "host_lost",
        "node_not_ready",
        "not_ready",
        "disk_full",
        "thermal",
        "maintenance",
    }
)
# The end of a program's output holds its last words; more would make the database a log store.
KEPT_BYTES: Final = 64 * 1024
KEPT_FOR: Final = timedelta(days=30)
_PRUNED_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Fetched:
    """One run's log as it came, or the code of what went wrong."""

    previous: bool
    raw: bytes = b""
    truncated: bool = False
    problem: str = ""


def wanted(row: Instance) -> bool:
    """Whether the log of this instance is to be fetched before its pod is deleted."""
    return (
        row.end_reason in WORTH_KEEPING
        and row.pod_uid is not None
        and not InstanceLog.objects.filter(instance=row).exists()
    )


def keep(instance_id: UUID, fetched: Sequence[Fetched], *, at: datetime) -> None:
    """Store what was fetched; whoever stored it first stays."""
    InstanceLog.objects.bulk_create(
        [
            InstanceLog(
                instance_id=instance_id,
                previous=one.previous,
                taken_at=at,
                text=as_text(stamped.line for stamped in lines_of(one.raw)),
                truncated=one.truncated,
                problem=one.problem,
            )
            for one in fetched
        ],
        ignore_conflicts=True,
    )


def kept(instance_id: UUID) -> list[LogText]:
    """What is kept of an instance, the older run first."""
    return [
        _shown(row)
        for row in InstanceLog.objects.filter(instance=instance_id).order_by("-previous")
    ]


def _shown(row: InstanceLog) -> LogText:
    return LogText(
        instance_id=row.instance_id,
        kind="none" if row.problem else "kept",
        lines=tuple(from_text(row.text)),
        truncated=row.truncated,
        detail=_NOT_FETCHED.format(row.problem) if row.problem else None,
        previous=row.previous,
        taken_at=row.taken_at,
    )


_NOT_FETCHED: Final = (
    "The host did not hand out the log before the machine was removed ({}), so it is lost."
)


def prune() -> int:
    """Forget logs past their month; how many."""
    old = InstanceLog.objects.filter(taken_at__lt=AppNow() - KEPT_FOR)
    pruned = 0
    while keys := list(old.values_list("pk", flat=True)[:_PRUNED_AT_ONCE]):
        pruned += InstanceLog.objects.filter(pk__in=keys).delete()[0]
    return pruned
