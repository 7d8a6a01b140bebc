"""The published rules, and a cluster's results, as plain values for other areas. Reads only."""

from __future__ import annotations

from uuid import UUID

from kernel import clock
from kernel.errors import NotFound
from provisioner.contracts.preflight import (
    Outcome,
    PreflightState,
    PreflightView,
    RuleChange,
    RuleResult,
    RuleTable,
    RuleView,
)
from provisioner.models import Cluster, ClusterLoop, PreflightChange, PreflightResult
from provisioner.preflight.rules import Rule, table

_CHANGES_SHOWN = 50


def rules() -> RuleTable:
    """The table as everybody may read it."""
    present = table()
    views = [
        RuleView(rule.slug, rule.title, rule.why, rule.threshold, rule.stops, rule.fix)
        for rule in present.rules
    ]
    return RuleTable(present.version, tuple(views))


def preflight(cluster_id: UUID) -> PreflightView:
    """Every rule in the table's order with its last result; NotFound."""
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        raise NotFound("cluster")
    found = {row.rule: row for row in PreflightResult.objects.filter(cluster=cluster)}
    changes = PreflightChange.objects.filter(cluster=cluster).order_by("-at", "rule")
    return PreflightView(
        state=PreflightState(cluster.preflight_state),
        sells=cluster.preflight_passed,
        version=table().version,
        checked_at=cluster.preflight_at,
        rules=tuple(_result(rule, found.get(rule.slug)) for rule in table().rules),
        changes=tuple(map(_change, changes[:_CHANGES_SHOWN])),
        looking=_looking(cluster),
    )


def _looking(cluster: Cluster) -> bool:
    """Whether a look is due or claimed. A loop without a row yet belongs to a cluster that was
    registered a moment ago."""
    loop = ClusterLoop.objects.filter(cluster=cluster, kind=ClusterLoop.Kind.PREFLIGHT).first()
    if loop is None:
        return cluster.preflight_at is None
    return loop.claim_token is not None or loop.due_at <= clock.now()


def _result(rule: Rule, row: PreflightResult | None) -> RuleResult:
    return RuleResult(
        rule=rule.slug,
        title=rule.title,
        why=rule.why,
        version=row.table_version if row else table().version,
        stops=rule.stops,
        measured=row.measured if row else "",
        threshold=rule.threshold,
        outcome=Outcome(row.outcome) if row else None,
        fix=rule.fix_for(row.outcome, row.measured) if row else "",
        since=row.since if row else None,
        checked_at=row.checked_at if row else None,
    )


def _change(row: PreflightChange) -> RuleChange:
    return RuleChange(
        rule=row.rule,
        version=row.table_version,
        before=Outcome(row.before) if row.before else None,
        outcome=Outcome(row.outcome),
        measured=row.measured,
        at=row.at,
    )
