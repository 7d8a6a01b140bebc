"""The mass brake: many deletions at once are more likely our mistake than the world's."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import Gauge

from kernel import clock
from provisioner.contracts import InstanceState
from provisioner.models import Instance

log = structlog.get_logger(__name__)
HELD = Gauge("gpuyard_brake_held", "Deletions that the mass brake holds back", ["cluster"])

# Ten orphans happen after a bad night; a twentieth of a cluster at once does not.
FEW, SHARE = 10, 0.05
WINDOW = timedelta(minutes=10)


def may_delete(cluster_id: UUID, wanted: int, pods: int) -> bool:
    """Whether a sweep may delete ``wanted`` of a cluster's ``pods``. Refusing raises an alarm
    figure; the next sweep asks again, so a brake that was right to hold releases by itself only
    when the cause is gone."""
    limit = max(FEW, int(pods * SHARE))
    # Instances that ended just now leave pods on their way out: those are expected.
    expected = Instance.objects.filter(
        cluster_id=cluster_id, state=InstanceState.GONE, gone_at__gt=clock.now() - WINDOW
    ).count()
    allowed = wanted <= limit + expected
    HELD.labels(str(cluster_id)).set(0 if allowed else wanted)
    if not allowed:
        log.error("mass_brake", cluster=str(cluster_id), wanted=wanted, limit=limit)
    return allowed
