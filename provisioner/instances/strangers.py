"""Pods and volumes with our label that name nothing we know, as the sweeps wrote them down.

Usually what a restore of the database forgot. They are read by people only: to end or bill them
would be guessing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import CharField, F, QuerySet, Value

from kernel.clock import now
from provisioner.contracts.desk import StrangerView
from provisioner.models import UnknownPod, UnknownVolume

# A sweep comes every 30 s. Shorter, and a cluster that is silent for a while seems to be rid of
# them; longer, and what its owner removed still waits for somebody here.
_STILL: Final = timedelta(minutes=15)
_FIELDS: Final = (
    *("kind", "cluster_id", "in_cluster", "namespace", "name", "label"),
    *("first_seen_at", "last_seen_at"),
)


def waiting() -> tuple[int, datetime | None]:
    """How many are there still, and the oldest of them."""
    times = [row[6] for row in _all(seen_after=now() - _STILL)]
    return len(times), min(times, default=None)


def strangers(*, limit: int) -> list[StrangerView]:
    """Those and the ones that are gone since, oldest first."""
    after = now() - _STILL
    rows = _all().order_by("first_seen_at")[:limit]
    return [StrangerView(*(*row, row[-1] > after)) for row in rows]


def _all(*, seen_after: datetime | None = None) -> Any:
    """Both kinds as one list of values."""
    pods, volumes = (
        _values(model.objects.all(), kind, seen_after)
        for model, kind in ((UnknownPod, "pod"), (UnknownVolume, "volume"))
    )
    return pods.union(volumes, all=True)


def _values(rows: QuerySet[Any], kind: str, seen_after: datetime | None) -> Any:
    if seen_after is not None:
        rows = rows.filter(last_seen_at__gt=seen_after)
    named = rows.annotate(kind=Value(kind, output_field=CharField()), in_cluster=F("cluster__name"))
    return named.order_by().values_list(*_FIELDS)
