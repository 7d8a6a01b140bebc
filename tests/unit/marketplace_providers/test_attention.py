"""What needs an owner: each fact alone, and their order together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from billing.contracts.payouts import AccountState
from marketplace.providers.attention import Facts, Planned, Urgency, needs
from provisioner.contracts import ClusterState, ReaperState
from provisioner.contracts.fleet import Quarantined
from provisioner.contracts.preflight import PreflightState
from tests.unit.marketplace_providers.test_stages import VIEW

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WELL = Facts(
    at=NOON,
    provider_state="approved",
    provider_reason="",
    has_place=True,
    has_gateway=False,
    clusters=(VIEW,),
    quarantined=(),
    planned=(),
    drafts=0,
    below_floor=0,
    account=AccountState.ACTIVE,
)


def codes(facts: Facts) -> list[str]:
    return [need.code for need in needs(facts)]


def cluster(**changes: Any) -> dict[str, Any]:
    return {"clusters": (replace(VIEW, **changes),)}


def planned(start: timedelta, end: timedelta | None = None) -> dict[str, Any]:
    ends = NOON + end if end else None
    return {"planned": (Planned("mnt_1", "one", NOON + start, ends),)}


def test_nothing_needs_an_owner_whose_all_is_well() -> None:
    assert codes(WELL) == []


@pytest.mark.parametrize(
    ("changes", "code", "urgency", "said"),
    [
        ({"provider_state": "suspended"}, "suspended", "now", "Write to support."),
        ({"provider_state": "applied"}, "not_approved", "soon", "look at your application"),
        ({"clusters": ()}, "no_cluster", "now", "Add your first cluster"),
        ({"clusters": (), "has_place": False}, "no_cluster", "now", "Name your data centre"),
        (cluster(state=ClusterState.UNREACHABLE), "cluster_offline", "now", "takes no new rentals"),
        (cluster(state=ClusterState.TLS_REJECTED), "cluster_offline", "now", "no new rentals"),
        (cluster(preflight=PreflightState.FAILED), "preflight_failed", "now", "breaks a rule"),
        (cluster(reaper_state=ReaperState.SILENT), "reaper", "soon", "fallen silent"),
        ({"has_gateway": True}, "relay", "soon", "no relay was ever seen"),
        ({"drafts": 1}, "no_price", "now", "An offer has no price"),
        ({"drafts": 7}, "no_price", "now", "7 offers have no price"),
        ({"below_floor": 2}, "below_floor", "soon", "2 offers ask less"),
        ({"account": None}, "payout_account", "soon", "no payout account"),
        ({"account": AccountState.RESTRICTED}, "payout_account", "now", "told more"),
        (planned(HOUR), "maintenance", "soon", "begins soon"),
        (planned(-HOUR), "maintenance", "soon", "until you end it"),
        (planned(-HOUR, HOUR), "maintenance", "soon", "under maintenance."),
    ],
)
def test_each_fact_is_one_need(changes: dict[str, Any], code: str, urgency: str, said: str) -> None:
    (need,) = needs(replace(WELL, **changes))
    assert (need.code, need.urgency.value) == (code, urgency)
    assert said in need.text


@pytest.mark.parametrize(
    "changes",
    [
        planned(49 * HOUR),
        cluster(state=ClusterState.RETIRED, reaper_state=ReaperState.SILENT),
        cluster(state=ClusterState.DRAINING, preflight=PreflightState.FAILED),
        {"account": AccountState.PENDING},
        {"has_gateway": True, **cluster(relay_seen_at=NOON, reaper_state=ReaperState.UNKNOWN)},
        {"has_gateway": True, **cluster(relay_seen_at=NOON)},
    ],
)
def test_what_can_wait_or_is_over_is_no_need(changes: dict[str, Any]) -> None:
    assert codes(replace(WELL, **changes)) == []


def test_nodes_in_quarantine_are_one_need_for_each_cluster() -> None:
    other = replace(VIEW, id=uuid4(), name="two")
    rows = [(VIEW.id, "a"), (VIEW.id, "b"), (other.id, "c"), (uuid4(), "of nobody's")]
    found = tuple(Quarantined(where, uuid4(), name, NOON) for where, name in rows)
    first, second = needs(replace(WELL, clusters=(VIEW, other), quarantined=found))
    assert first.text.startswith("2 nodes are in quarantine in one")
    assert second.text.startswith("c is in quarantine in two")


def test_what_costs_money_now_comes_first() -> None:
    found = needs(
        replace(
            WELL,
            account=None,
            drafts=1,
            clusters=(
                replace(VIEW, state=ClusterState.UNREACHABLE, reaper_state=ReaperState.MISSING),
                replace(VIEW, id=uuid4(), reaper_state=ReaperState.MISSING),
            ),
        )
    )
    assert found[0].at == VIEW.state_since
    urgencies = [need.urgency for need in found]
    assert urgencies == sorted(urgencies, key=lambda one: one != Urgency.NOW)
    assert [need.code for need in found] == [
        "cluster_offline",
        "no_price",
        "reaper",
        "payout_account",
    ]
