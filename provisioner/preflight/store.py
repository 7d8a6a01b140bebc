"""Writing what a preflight found, and what follows: whether the cluster takes new rentals.
Tables only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings

from kernel import clock
from kernel.wake import wake_on_commit
from provisioner.clusters.register import note_cluster_change
from provisioner.contracts.preflight import Outcome, PreflightState
from provisioner.models import Cluster, ClusterLoop, PreflightChange, PreflightResult
from provisioner.preflight.judge import FAIL, UNKNOWN, Result, verdict
from provisioner.preflight.rules import by_slug

log = structlog.get_logger(__name__)

# What changed when helps for as long as somebody remembers what they did.
KEPT = timedelta(days=180)


def ask_again(cluster_id: UUID) -> None:
    """Look at once, in the caller's transaction. A look that is under way is followed by another:
    it may have asked before what was put right."""
    loops = ClusterLoop.objects.filter(cluster_id=cluster_id, kind=ClusterLoop.Kind.PREFLIGHT)
    loops.update(due_at=clock.now())
    wake_on_commit("provisioner.preflight")


def store(cluster: Cluster, results: Sequence[Result], *, at: datetime, may_open: bool) -> None:
    """Write results of a cluster whose row the caller has locked, in its transaction.

    ``may_open`` False: somebody asked anew, maybe with another token, so that what passed here
    says nothing about it; what failed counts.
    """
    _write(cluster, results, at)
    passed = verdict(results, before=cluster.preflight_passed)
    if passed and not cluster.preflight_passed and not may_open:
        passed = False
    if passed and not cluster.preflight_passed:
        passed = _begins_to_sell(cluster, at)
    state = _state(results)
    if state == PreflightState.PASSED and not passed:
        state = PreflightState.WAITING
    changed = passed != cluster.preflight_passed
    cluster.preflight_passed, cluster.preflight_state = passed, state.value
    cluster.preflight_at = at
    cluster.save(update_fields=["preflight_passed", "preflight_state", "preflight_at"])
    if changed:
        note_cluster_change(cluster.pk)
        failed = [result.rule for result in results if result.outcome == FAIL]
        log.info("preflight", cluster=str(cluster.pk), passed=passed, failed=failed)


def _begins_to_sell(cluster: Cluster, at: datetime) -> bool:
    """Whether a cluster that passed takes rentals now. The first time its cards are measured before
    that, for as long as GPUYARD_BENCHMARK_WAIT says: a probe that cannot run must not keep them."""
    first = cluster.probation_from is None and cluster.benchmark_until is None
    if first and settings.GPUYARD_PROBES:
        cluster.benchmark_until = at + timedelta(seconds=settings.GPUYARD_BENCHMARK_WAIT)
        cluster.save(update_fields=["benchmark_until"])
        loops = ClusterLoop.objects.filter(cluster=cluster, kind=ClusterLoop.Kind.PROBES)
        loops.update(due_at=at)
        wake_on_commit("provisioner.probes")
    if waits_for_benchmark(cluster, at):
        return False
    if cluster.probation_from is None:
        cluster.probation_from = at
        cluster.save(update_fields=["probation_from"])
    return True


def waits_for_benchmark(cluster: Cluster, at: datetime) -> bool:
    """Whether a new cluster's cards are still kept back for their first benchmark."""
    until = cluster.benchmark_until
    return cluster.benchmarked_at is None and until is not None and at < until


def _state(results: Sequence[Result]) -> PreflightState:
    outcomes = {result.outcome for result in results if by_slug()[result.rule].stops}
    if FAIL in outcomes:
        return PreflightState.FAILED
    return PreflightState.UNANSWERED if UNKNOWN in outcomes else PreflightState.PASSED


def _write(cluster: Cluster, results: Sequence[Result], at: datetime) -> None:
    before = {row.rule: row for row in PreflightResult.objects.filter(cluster=cluster)}
    rows, changes = [], []
    for result in results:
        known = before.pop(result.rule, None)
        outcome = Outcome(result.outcome)
        moved = known is None or known.outcome != outcome
        rows.append(
            PreflightResult(
                cluster=cluster,
                rule=result.rule,
                table_version=result.version,
                outcome=outcome.value,
                measured=result.measured,
                since=at if known is None or moved else known.since,
                checked_at=at,
            )
        )
        if moved:
            changes.append(
                PreflightChange(
                    cluster=cluster,
                    rule=result.rule,
                    table_version=result.version,
                    before=known.outcome if known else "",
                    outcome=outcome.value,
                    measured=result.measured,
                    at=at,
                )
            )
    PreflightResult.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["cluster", "rule"],
        update_fields=["table_version", "outcome", "measured", "since", "checked_at"],
    )
    # Rules that the table does not have any more.
    PreflightResult.objects.filter(pk__in=[row.pk for row in before.values()]).delete()
    PreflightChange.objects.bulk_create(changes)
    PreflightChange.objects.filter(cluster=cluster, at__lt=at - KEPT).delete()
