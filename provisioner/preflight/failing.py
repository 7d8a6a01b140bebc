"""Clusters that the published rules keep from sale, for people who look after them."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Min, Q

from provisioner.contracts import ClusterState
from provisioner.contracts.desk import FailingView
from provisioner.contracts.preflight import Outcome, PreflightState
from provisioner.models import Cluster, PreflightResult
from provisioner.preflight.rules import by_slug

_FAILED = {"preflight_state": PreflightState.FAILED.value}


def waiting() -> tuple[int, datetime | None]:
    """How many clusters, and since when the first of their rules fails."""
    failing = Q(preflight_results__outcome=Outcome.FAIL.value)
    rows = Cluster.objects.filter(**_FAILED).exclude(state=ClusterState.RETIRED.value)
    found = rows.aggregate(
        count=Count("id", distinct=True), oldest=Min("preflight_results__since", filter=failing)
    )
    return found["count"], found["oldest"]


def failing(*, limit: int) -> list[FailingView]:
    """What fails in them, the longest failing first."""
    rows = PreflightResult.objects.filter(
        outcome=Outcome.FAIL.value,
        **{f"cluster__{name}": value for name, value in _FAILED.items()},
    ).exclude(cluster__state=ClusterState.RETIRED.value)
    known = by_slug()
    return [
        FailingView(
            cluster_id=row.cluster_id,
            cluster=row.cluster.name,
            provider_ref=row.cluster.provider_ref,
            rule=known[row.rule].title if row.rule in known else row.rule,
            measured=row.measured,
            since=row.since,
        )
        for row in rows.select_related("cluster").order_by("since")[:limit]
    ]
