"""Since when an instance's cards do nothing, as its reporter tells. PURE.

Silence is never quiet: a reporter that died must not stop a training run, so a gap, a restart, a
card that is not told or not measured all begin anew. Whoever fakes figures fakes them against a
limit of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from provisioner.contracts.reports import InstanceReport

# A desktop's worth of background work, or a driver's own housekeeping, shows as 1 to 4 %. Higher,
# and inference with a request now and then counts as nothing; at 0 %, monitoring keeps it awake.
QUIET_PERCENT: Final = 5.0
# Three reports in a row may be lost (a busy CPU, a redeploy of ours). With a longer gap minutes of
# work could hide between two reports; with a shorter one idle machines would never be stopped.
MOST_GAP: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class Watched:
    """What the reports before amount to."""

    reported_at: datetime
    boot: str
    quiet_since: datetime | None


def quiet_since(
    before: Watched | None, report: InstanceReport, *, gpus: int, at: datetime
) -> datetime | None:
    """Since when all ``gpus`` cards are quiet, with a report that arrived ``at``; None: they are
    not, or nobody can say so."""
    if len(report.devices) < gpus or not all(
        one.gpu_percent is not None and one.gpu_percent <= QUIET_PERCENT for one in report.devices
    ):
        return None
    if before is None or before.quiet_since is None or before.boot != report.boot:
        return at
    gapless = timedelta(0) <= at - before.reported_at <= MOST_GAP
    return before.quiet_since if gapless else at
