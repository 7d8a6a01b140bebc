"""What an owner gives of the network: said by the offer, kept by the cluster's policies."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.clock import now
from marketplace.models import AuditEntry
from provisioner.models import Instance, PreflightResult
from provisioner.reconcile.steps import spec_of
from tests.market import Supply, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db


def set_offer(supply: Supply, **changes: Any) -> tuple[int, Any]:
    return supply.owner.call("PATCH", f"/provider/offers/{supply.offer.public_id}", changes)


def measured(supply: Supply, outcome: str) -> None:
    PreflightResult.objects.update_or_create(
        cluster=supply.cluster,
        rule="egress_rules",
        defaults={
            "outcome": outcome,
            "measured": "",
            "table_version": 2,
            "checked_at": now(),
            "since": now(),
        },
    )


def graded(**kind: Any) -> Supply:
    supply = make_supply(2, **kind)
    measured(supply, "pass")
    return supply


@pytest.mark.parametrize("outcome", [None, "warn", "unknown"])
def test_less_than_the_internet_needs_policies_that_were_seen(outcome: str | None) -> None:
    supply = make_supply(1)
    if outcome is not None:
        measured(supply, outcome)
    status, problem = set_offer(supply, egress="web")
    assert (status, list(problem["errors"])) == (422, ["egress"])
    assert "apply the provider bundle again" in problem["errors"]["egress"][0]
    assert public_get("/offers")[1]["items"][0]["egress"] == "internet"
    # A cap is kept by the network itself, which no policy of ours has to do with.
    assert set_offer(supply, bandwidth_mbps=500)[1]["bandwidth_mbps"] == 500


def test_it_is_shown_audited_and_taken_back() -> None:
    supply = graded()
    status, shown = set_offer(supply, egress="web", bandwidth_mbps=200)
    assert (status, shown["egress"], shown["bandwidth_mbps"]) == (200, "web", 200)
    row = public_get("/offers")[1]["items"][0]
    assert (row["egress"], row["bandwidth_mbps"]) == ("web", 200)
    details = AuditEntry.objects.filter(action="offer.set").latest("id").details
    assert (details["egress"], details["bandwidth_mbps"]) == ("web", 200)
    measured(supply, "warn")  # what is kept already may stay, and may always become more
    assert set_offer(supply, egress="web")[0] == 200
    shown = set_offer(supply, egress="internet", bandwidth_mbps=None)[1]
    assert (shown["egress"], shown["bandwidth_mbps"]) == ("internet", None)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", {"internet", "web", "none"}),
        ("?egress=internet", {"internet"}),
        ("?egress=web", {"internet", "web"}),
        ("?egress=none", {"internet", "web", "none"}),
    ],
)
def test_who_gives_more_gives_the_less_as_well(asked: str, found: set[str]) -> None:
    for egress in ("internet", "web", "none"):
        assert set_offer(graded(), egress=egress)[0] == 200
    assert {row["egress"] for row in public_get(f"/offers{asked}")[1]["items"]} == found


def test_nobody_gets_a_machine_without_the_internet_who_did_not_ask() -> None:
    supply, renter = graded(), make_renter()
    set_offer(supply, egress="web")
    plain = order(supply.offer)
    status, problem = renter.call("POST", "/rentals", plain)
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    change = problem["relaxations"][0]["changes"][0]
    assert change == {"field": "egress", "from": "internet", "to": "web"}
    wanted = {**plain, "requirement": {**plain["requirement"], "egress": "web"}}
    assert renter.call("POST", "/rentals", wanted)[0] == 202


def test_the_pod_carries_what_its_group_is_given() -> None:
    supply, renter = graded(), make_renter()
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    set_offer(supply, egress="none", bandwidth_mbps=100)
    body = order(supply.offer, requirement=..., quote=quote["id"])
    assert renter.call("POST", "/rentals", body)[0] == 202
    spec = spec_of(Instance.objects.select_related("share__group", "share__node").get())
    assert (spec.egress, spec.bandwidth_mbps) == ("none", 100)


@pytest.mark.parametrize(
    "changes", [{"egress": "lan"}, {"bandwidth_mbps": 9}, {"bandwidth_mbps": -1}, {"egress": None}]
)
def test_what_is_none_of_them_is_refused(changes: dict[str, Any]) -> None:
    supply = graded()
    assert set_offer(supply, **changes)[0] == 422
    supply.group.refresh_from_db()
    assert (supply.group.egress, supply.group.bandwidth_mbps) == ("internet", None)
