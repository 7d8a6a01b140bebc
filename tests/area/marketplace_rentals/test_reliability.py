"""Reliability: placements end, a loop keeps the figure, the catalogue filters and orders by it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from kernel.ids import new_id
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.relax import relaxations
from provisioner.contracts import Fault
from provisioner.contracts import InstanceState as S
from provisioner.contracts.reliability import Verdict
from provisioner.facade import reliability as provisioner
from provisioner.instances.release import end, finish
from provisioner.inventory import record
from provisioner.models import DeviceGroup, Instance, InstanceEvent, Namespace, NodeShare
from provisioner.models import Reliability as Kept
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock, world
from tests.market import H100, USD, Supply, make_supply, public_get

pytestmark = pytest.mark.django_db
__all__ = ["clock", "world"]  # fixtures


def ended(
    supply: Supply,
    count: int = 1,
    *,
    reason: str = "terminated_by_user",
    fault: Fault | None = Fault.NONE,
    started: bool = True,
    **more: Any,
) -> list[Instance]:
    """Placements that are over, as the provisioner's own moves leave them."""
    share = NodeShare.objects.filter(group=supply.group).first()
    namespace = Namespace.objects.filter(cluster=supply.cluster).first()
    assert share is not None
    assert namespace is not None
    rows = []
    for _ in range(count):
        at = now()
        row = Instance.objects.create(
            rental_ref=new_id(), tenant_ref=new_id(), cluster=supply.cluster, share=share,
            namespace=namespace, gpus=1, accelerator=supply.group.accelerator,
            memory_mib=supply.group.memory_mib, vcpus_milli=1, ram_mib=1, disk_mib=1, order={},
            state_since=at, created_at=at, pod_name=f"pod-{new_id().hex[-12:]}",
            ready_at=at if started else None,
        )  # fmt: skip
        assert end(row, reason=reason, fault=fault, at=at, **more)
        assert finish(row, at=at, claim=None)
        rows.append(row)
    return rows


def shown(supply: Supply) -> Any:
    return public_get(f"/offers/{supply.offer.public_id}")[1]["reliability"]


def test_a_figure_stands_from_the_tenth_placement_on_and_is_rounded_down() -> None:
    supply = make_supply(2)
    ended(supply, 8)
    ended(supply, reason="gpu_lost", fault=None)
    record.refresh()
    assert shown(supply) == {"value": None, "sample": 9}
    ended(supply, 2)
    assert record.refresh() == 1
    # 10 of 11: 0.90909...
    assert shown(supply) == {"value": 0.9090, "sample": 11}
    assert record.refresh() == 0, "nothing changed, nothing is written"
    mine = supply.owner.call("GET", "/provider/offers")[1]["items"][0]
    assert mine["reliability"] == {"value": 0.9090, "sample": 11}


def test_what_names_nobody_counts_neither_way() -> None:
    supply = make_supply(2)
    ended(supply, 10)
    for reason, fault in (
        ("lapsed", None), ("config_error", None), ("bad_command", None), ("start_timeout", None),
        ("maintenance", Fault.HOST),
    ):  # fmt: skip
        ended(supply, 2, reason=reason, fault=fault, started=False)
    ended(supply, 3, started=False)
    ended(supply, reason="host_lost", fault=None, evidence={"was": "cluster_unreachable"})
    # Its tool is in the renter's image for some cards, and ours for none of these without cards.
    ended(supply, reason="order_mismatch", fault=None, evidence={"devices": []})
    record.refresh()
    assert shown(supply) == {"value": 1.0, "sample": 10}
    view = provisioner.reliability(group_id=supply.group.id)
    assert {cause.code: cause.count for cause in view.uncounted} == {
        "lapsed": 2, "platform": 2, "renter": 2, "start_timeout": 2, "maintenance": 2,
        "ended_before_start": 3, "host_lost": 1, "order_mismatch": 1,
    }  # fmt: skip
    assert view.failures == ()


def test_evidence_against_the_host_is_a_strike_with_its_cause() -> None:
    supply = make_supply(2)
    ended(supply, 6)
    ended(supply, 2, reason="host_lost", fault=None, evidence={"was": "node_not_ready"})
    ended(supply, reason="maintenance", fault=Fault.HOST, evidence={"without_notice": True})
    ended(supply, reason="host_rejected", fault=None, started=False)
    record.refresh()
    assert shown(supply) == {"value": 0.6, "sample": 10}
    view = provisioner.reliability(group_id=supply.group.id)
    assert [(cause.code, cause.count) for cause in view.failures] == [
        ("host_lost", 2), ("host_rejected", 1), ("stopped_at_once", 1)
    ]  # fmt: skip


def test_a_month_later_it_is_forgotten(clock: Clock) -> None:
    supply = make_supply(2)
    ended(supply, 10)
    record.refresh()
    assert shown(supply)["value"] == 1.0
    clock.set(NOON + record.WINDOW + timedelta(seconds=1))
    assert record.refresh() == 1
    assert shown(supply) == {"value": None, "sample": 0}
    assert Kept.objects.get(group=supply.group).kept == 0


def test_a_restart_is_no_end(world: World) -> None:
    world.run()
    first = world.instance
    assert end(first, reason="restarted_by_user", fault=Fault.NONE, at=NOON, successor_id=new_id())
    assert finish(first, at=NOON, claim=None)
    record.refresh()
    assert shown(world.supply)["sample"] == 0
    (after,) = provisioner.placements(group_id=world.supply.group.id, limit=5)
    assert (after.instance_id != first.pk, after.verdict, after.ended_at) == (True, None, None)


@pytest.mark.parametrize(
    ("reason", "verdict", "cause"),
    [
        ("maintenance", Verdict.FAILED, "stopped_at_once"),
        ("abuse", Verdict.UNCOUNTED, "renter"),
    ],
)
def test_a_stop_at_once_is_a_strike(world: World, reason: str, verdict: str, cause: str) -> None:
    world.run()
    body = {"reason": reason, "text": "power work"}
    path = f"/provider/rentals/{world.rental.public_id}/stop-now"
    assert world.supply.owner.call("POST", path, body)[0] == 202
    (seen,) = provisioner.placements(group_id=world.supply.group.id, limit=5)
    assert (seen.verdict, seen.cause) == (verdict, cause)
    told = InstanceEvent.objects.get(instance=world.instance, state=S.STOPPING).evidence
    assert told == ({"without_notice": True} if reason == "maintenance" else {})


def measured(value: int | None, **more: Any) -> Supply:
    supply = make_supply(1, **more)
    DeviceGroup.objects.filter(pk=supply.group.pk).update(
        reliability_bp=value, reliability_sample=20 if value is not None else 3
    )
    return supply


def test_the_catalogue_filters_and_orders_by_it() -> None:
    well, fair, none = measured(9900), measured(9500, price=USD), measured(None, price=USD)

    def found(question: str) -> list[str]:
        status, page = public_get(f"/offers?{question}")
        assert status == 200, page
        return [row["id"] for row in page["items"]]

    ids = [each.offer.public_id for each in (well, fair, none)]
    assert found("order=reliability") == ids
    assert found("min_reliability=0.99") == ids[:1]
    assert found("min_reliability=0.9901") == []
    assert found("min_reliability=0.95&order=reliability") == ids[:2]
    assert set(found("min_reliability=0")) == set(ids), "everything is at least nothing"
    rows = public_get("/offers?order=reliability")[1]["items"]
    assert "0.99 of 20 placements" in rows[0]["why_here"]
    assert "too few placements to say (3)" in rows[2]["why_here"]


def test_pages_in_its_order_show_each_offer_once_through_ties_and_nulls() -> None:
    values = [9000, 10000, None, 9000, 0, None, 9000]
    supplies = [measured(value) for value in values]
    # A figure of 0 stands before those without one.
    seen: list[tuple[float | None, str]] = []
    following: str | None = ""
    while following is not None:
        status, page = public_get(f"/offers?order=reliability&limit=1{following}")
        assert status == 200, page
        seen += [(row["reliability"]["value"], row["id"]) for row in page["items"]]
        following = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert [value for value, _ in seen] == [1.0, 0.9, 0.9, 0.9, 0.0, None, None]
    assert {identifier for _, identifier in seen} == {one.offer.public_id for one in supplies}
    assert len(seen) == len(supplies)


def test_a_cursor_with_another_key_is_refused() -> None:
    measured(9000), measured(9000)
    cursor = public_get("/offers?order=reliability&limit=1")[1]["next_cursor"]
    assert public_get(f"/offers?order=price&cursor={cursor}")[0] == 400


def test_a_refusal_names_the_figure_that_would_find_something() -> None:
    measured(9512)
    measured(None, price=1)  # the cheapest, and no figure would find it
    query = OfferQuery(accelerator=(H100,), gpus=1, min_reliability=Decimal("0.99"))
    (found,) = relaxations(query)
    assert found["changes"] == [{"field": "min_reliability", "from": "0.99", "to": "0.9512"}]
    DeviceGroup.objects.update(reliability_bp=None)
    (found,) = relaxations(query)
    assert found["changes"] == [{"field": "min_reliability", "from": "0.99", "to": None}]


def test_the_loop_is_two_statements_however_much_there_is() -> None:
    for _ in range(3):
        ended(make_supply(1), 4)
    with CaptureQueriesContext(connection) as captured:
        record.refresh()
    assert len(captured) == 2


def test_history_goes_with_the_cards() -> None:
    supply, other = make_supply(1), make_supply(1)
    ended(supply, 10)
    NodeShare.objects.filter(group=supply.group).update(group=other.group)
    record.refresh()
    assert (shown(supply)["sample"], shown(other)["sample"]) == (0, 10)
