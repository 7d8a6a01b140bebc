"""Where a cluster stands on its way to being listed, in one word and one sentence. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from provisioner.contracts import ClusterState, ClusterView
from provisioner.contracts.preflight import PreflightState


class Stage(StrEnum):
    """The way of a cluster; docs/supply.md has the table."""

    ENROLLED = "enrolled"
    PREFLIGHT = "preflight"
    BENCHMARKING = "benchmarking"
    PROBATION = "probation"
    LISTED = "listed"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


@dataclass(frozen=True)
class Placed:
    stage: Stage
    text: str


def stage(cluster: ClusterView, *, maintained_until: datetime | None, maintained: bool) -> Placed:
    """``maintained``: a maintenance of the whole cluster is under way, and until when, if known."""
    if cluster.state == ClusterState.RETIRED:
        return Placed(Stage.RETIRED, "Its end was asked for, and no machine is left there.")
    if cluster.state == ClusterState.DRAINING:
        return Placed(Stage.DRAINING, "It takes no new rentals; those that run go on.")
    if maintained:
        until = f" until {_at(maintained_until)}" if maintained_until else ""
        return Placed(Stage.MAINTENANCE, f"It is taken down{until}: nothing is let there.")
    if cluster.last_observed_at is None and not cluster.preflight_sells:
        return Placed(Stage.ENROLLED, f"It was not heard yet. {cluster.detail}".strip())
    if not cluster.preflight_sells:
        return _before_sale(cluster)
    return _on_sale(cluster)


def _at(moment: datetime) -> str:
    """A time inside a sentence, which people and programs read alike."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _before_sale(cluster: ClusterView) -> Placed:
    if cluster.joining.benchmark_until is not None:
        until = _at(cluster.joining.benchmark_until)
        said = f"Its free cards are measured once; it sells when they are, or at {until}."
        return Placed(Stage.BENCHMARKING, _with_failure(said, cluster))
    text = {
        PreflightState.FAILED: "A rule fails that keeps it off sale: see its preflight.",
        PreflightState.UNANSWERED: "A rule that matters was not answered yet: see its preflight.",
    }.get(cluster.preflight, "It is being held against the rules.")
    return Placed(Stage.PREFLIGHT, text)


def _on_sale(cluster: ClusterView) -> Placed:
    if cluster.joining.probation_until is None:
        return Placed(Stage.LISTED, _with_failure("It is for rent.", cluster))
    left = cluster.joining.starts_left
    said = (
        f"It is for rent, and its offers are shown as new until {left} more starts without"
        f" a fault of the host's, or {_at(cluster.joining.probation_until)}."
    )
    return Placed(Stage.PROBATION, _with_failure(said, cluster))


def _with_failure(said: str, cluster: ClusterView) -> str:
    """What keeps its figures unknown is its owner's to know."""
    if not cluster.joining.probe_failure:
        return said
    return f"{said} The last probe told nothing: {cluster.joining.probe_failure}"
