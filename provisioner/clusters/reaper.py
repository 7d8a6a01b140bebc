"""Whether the reaper of a cluster works: the program there that ends pods whose lease ran out.

It renews a lease of its own, its heartbeat, after each complete look. Without it a pod outlives its
lease when we are away, so silence and an old version are alarms; renting goes on, because while we
are there we end pods ourselves. Limit: a cluster that does not answer keeps its last verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from provisioner.contracts import ReaperState
from provisioner.models import Cluster

log = structlog.get_logger(__name__)

# The version in deploy/provider/reaper.py that this platform counts on; a test keeps them equal.
CURRENT = 1
# It beats every ten seconds: a restart of its node passes, more is somebody's to look at.
SILENCE = timedelta(minutes=3)


@dataclass(frozen=True)
class Beat:
    """A heartbeat as the cluster shows it. ``mark`` changes with each."""

    mark: str
    version: int


def note(cluster: Cluster, beat: Beat | None, *, at: datetime) -> ReaperState:
    """Store what a look at the heartbeat showed; None: there is none, or it never beat."""
    changes: dict[str, object] = {}
    if beat is not None and beat.mark != cluster.reaper_mark:
        changes = {
            "reaper_mark": beat.mark,
            "reaper_seen_at": at,
            "reaper_version": beat.version,
        }
    for name, value in changes.items():
        setattr(cluster, name, value)
    state = condition(cluster, at)
    if state != cluster.reaper_state:
        changes["reaper_state"] = cluster.reaper_state = state.value
        tell = log.info if state == ReaperState.RUNNING else log.error
        tell("reaper", cluster=str(cluster.pk), state=state.value, version=cluster.reaper_version)
    if changes:
        Cluster.objects.filter(pk=cluster.pk).update(**changes)
    return state


def condition(cluster: Cluster, at: datetime) -> ReaperState:
    """What the row says of it at ``at``."""
    if cluster.reaper_seen_at is None:
        young = at - cluster.created_at <= SILENCE
        return ReaperState.UNKNOWN if young else ReaperState.MISSING
    if at - cluster.reaper_seen_at > SILENCE:
        return ReaperState.SILENT
    if (cluster.reaper_version or 0) < CURRENT:
        return ReaperState.OUTDATED
    return ReaperState.RUNNING
