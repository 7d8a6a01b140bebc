"""Probation: how long a cluster that began to sell is shown as new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection

from provisioner.contracts import Fault
from provisioner.models import Cluster


@dataclass(frozen=True)
class Terms:
    """It ends with as many starts in a row without a fault of the host's, or after this time."""

    starts: int
    time: timedelta


# Twenty starts see most of what goes wrong at a start; two weeks release who lets few cards.
PROBATION: Final = Terms(starts=20, time=timedelta(days=14))


def renew(cluster: Cluster, *, at: datetime) -> None:
    """End it where it is over. In a transaction that holds the cluster's row."""
    if cluster.probation_from is None or cluster.probation_ended_at is not None:
        return
    long_enough = at >= cluster.probation_from + PROBATION.time
    if long_enough or starts_left([cluster])[cluster.pk] == 0:
        cluster.probation_ended_at = at
        cluster.save(update_fields=["probation_ended_at"])


def ends_at(cluster: Cluster) -> datetime | None:
    """At the latest; None: it is on no probation."""
    if cluster.probation_from is None or cluster.probation_ended_at is not None:
        return None
    return cluster.probation_from + PROBATION.time


_GOOD_STARTS = """
SELECT i.cluster_id, count(*) FROM provisioner_instance i
WHERE i.cluster_id = ANY(%s::uuid[]) AND i.ready_at IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM provisioner_instance f
  WHERE f.cluster_id = i.cluster_id AND f.end_fault = %s AND f.created_at >= i.created_at
) GROUP BY i.cluster_id
"""


def starts_left(clusters: Sequence[Cluster]) -> dict[UUID, int]:
    """Of those on probation: the starts that are still missing. Those count that became ready since
    the last one that its host failed."""
    ids = [cluster.pk for cluster in clusters if ends_at(cluster) is not None]
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_GOOD_STARTS, [ids, Fault.HOST.value])
        good: dict[UUID, int] = dict(cursor.fetchall())
    return {key: max(0, PROBATION.starts - good.get(key, 0)) for key in ids}


def on_probation() -> list[UUID]:
    """Clusters whose offers are shown as new."""
    rows = Cluster.objects.filter(probation_from__isnull=False, probation_ended_at=None)
    return list(rows.values_list("pk", flat=True))
