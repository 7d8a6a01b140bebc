"""Reasons for being shown and rented, or not: each from one fact, and what hides comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from marketplace.catalog.why import Effect, Facts, reasons

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WELL = Facts(
    provider_state="approved", offer_state="active", price_micro_h=2_000_000, switched_off=False,
    cluster="north", cluster_state="ready", cluster_detail="", preflight="passed",
    preflight_sells=True, at=NOON, ends_at=None, opens_at=None, closes_at=None, is_open=True,
    maintenance_from=None, slots_total=8, slots_free=4, largest_block=4, min_gpus=1, unsold=(),
    has_gateway=True, has_relay=True, storage="cluster", storage_reason="", interruptible=True,
    cheaper=0, comparable=3, p90_micro=3_000_000, reliability_bp=9900, sample=40, least_sample=10,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "effect", "said"),
    [
        ({"provider_state": "suspended"}, "provider_not_approved", Effect.HIDES, "suspended"),
        ({"offer_state": "draft", "price_micro_h": 0}, "draft", Effect.HIDES, "price"),
        ({"offer_state": "paused"}, "paused", Effect.HIDES, "active"),
        ({"offer_state": "ended"}, "ended", Effect.HIDES, "final"),
        ({"switched_off": True}, "stopped_by_us", Effect.HIDES, "We take"),
        ({"cluster_state": "unreachable"}, "cluster_not_ready", Effect.HIDES, "north gives no"),
        ({"cluster_state": "draining"}, "cluster_not_ready", Effect.HIDES, "you asked"),
        ({"preflight_sells": False, "preflight": "failed"}, "preflight", Effect.HIDES, "failed"),
        ({"is_open": False, "ends_at": NOON}, "end_date", Effect.HIDES, "later one"),
        ({"is_open": False, "maintenance_from": NOON}, "maintenance", Effect.HIDES, "Withdraw"),
        ({"is_open": False, "opens_at": NOON + timedelta(hours=8)}, "outside_windows",
         Effect.HIDES, "2026-03-01T20:00:00Z"),
        ({"is_open": False, "closes_at": NOON + timedelta(minutes=5)}, "closing", Effect.HIDES,
         "some minutes"),
        ({"slots_total": 0, "slots_free": 0, "largest_block": 0}, "no_cards", Effect.FULL, "node"),
        ({"slots_free": 0, "largest_block": 0}, "rented_out", Effect.FULL, "All 8"),
        ({"slots_free": 2, "largest_block": 0}, "none_free", Effect.FULL, "None of its"),
        ({"min_gpus": 8}, "min_gpus", Effect.FULL, "Lower min_gpus"),
        ({"unsold": [("n1", "not_ready")]}, "nodes_unsold", Effect.NARROWS, "n1 (not_ready)"),
        ({"has_relay": False}, "no_way_in", Effect.NARROWS, "relay"),
        ({"storage": "none"}, "no_storage", Effect.NARROWS, "volume"),
        ({"closes_at": NOON + timedelta(days=1)}, "until", Effect.NARROWS, "without an end"),
        ({"min_gpus": 2}, "only_large_orders", Effect.NARROWS, "fewer than 2"),
        ({"interruptible": False}, "not_interruptible", Effect.NARROWS, "interruptible price"),
        ({"reliability_bp": None, "sample": 3}, "no_reliability", Effect.NARROWS, "3 of the 10"),
        ({"cheaper": 2}, "cheaper_offers", Effect.RANKS, "2 of 3"),
        ({"price_micro_h": 3_000_001}, "above_market", Effect.RANKS, "3.0000 USD"),
        ({"reliability_bp": 9499}, "reliability", Effect.RANKS, "causes"),
    ],
)  # fmt: skip
def test_one_fact_is_one_reason(
    changes: dict[str, Any], code: str, effect: Effect, said: str
) -> None:
    found = {reason.code: reason for reason in reasons(replace(WELL, **changes))}
    assert found[code].effect == effect
    assert said in found[code].text
    beside = {"closing": {"until"}, "min_gpus": {"only_large_orders"}}
    assert set(found) == {code} | beside.get(code, set())


def test_an_offer_that_is_well_has_none() -> None:
    assert reasons(WELL) == []
    assert reasons(replace(WELL, has_gateway=False, has_relay=False)) == [], (
        "nobody gets in anywhere"
    )


def test_what_hides_comes_before_what_narrows() -> None:
    found = reasons(replace(WELL, offer_state="paused", storage="none", cheaper=1))
    assert [reason.effect for reason in found] == [Effect.HIDES, Effect.NARROWS, Effect.RANKS]
