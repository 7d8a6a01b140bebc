"""One word and one sentence for every state of a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from marketplace.providers.stages import Stage, stage
from provisioner.contracts import ClusterState, ClusterView, ReaperState
from provisioner.contracts.joining import Joining
from provisioner.contracts.preflight import PreflightState

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
VIEW = ClusterView(
    id=uuid4(),
    name="one",
    provider_ref=uuid4(),
    datacenter_ref=uuid4(),
    api_url="https://k8s.example.com",
    state=ClusterState.READY,
    reason="ready",
    detail="",
    state_since=NOON,
    server_version="v1.30.1",
    last_observed_at=NOON,
    nodes=1,
    slots=8,
    slots_free=8,
    reaper_state=ReaperState.RUNNING,
    reaper_version=1,
    reaper_seen_at=NOON,
    preflight=PreflightState.PASSED,
)
OFF: dict[str, Any] = {"preflight_sells": False}
WAITS = Joining(benchmark_until=NOON)
NEW = Joining(probation_until=NOON, starts_left=7)


@pytest.mark.parametrize(
    ("changes", "maintained", "expected", "said"),
    [
        ({}, False, Stage.LISTED, "for rent"),
        ({"last_observed_at": None, **OFF}, False, Stage.ENROLLED, "not heard"),
        ({"preflight": PreflightState.WAITING, **OFF}, False, Stage.PREFLIGHT, "held against"),
        ({"preflight": PreflightState.FAILED, **OFF}, False, Stage.PREFLIGHT, "A rule fails"),
        ({"preflight": PreflightState.UNANSWERED, **OFF}, False, Stage.PREFLIGHT, "not answered"),
        ({"joining": WAITS, **OFF}, False, Stage.BENCHMARKING, "2026-06-01 12:00 UTC"),
        ({"joining": NEW}, False, Stage.PROBATION, "7 more starts"),
        ({}, True, Stage.MAINTENANCE, "until 2026-06-01"),
        ({"state": ClusterState.DRAINING}, True, Stage.DRAINING, "no new rentals"),
        ({"state": ClusterState.RETIRED}, True, Stage.RETIRED, "no machine"),
        ({"joining": Joining(probe_failure="quota")}, False, Stage.LISTED, "nothing: quota"),
    ],
)
def test_each_stage_has_its_sentence(
    changes: dict[str, Any], maintained: bool, expected: Stage, said: str
) -> None:
    until = NOON if maintained else None
    found = stage(replace(VIEW, **changes), maintained=maintained, maintained_until=until)
    assert found.stage == expected
    assert said in found.text
