"""A cluster against the published rules, over the API: for its owner alone, gaps with their fix."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kernel import clock
from kernel.ids import public
from marketplace.accounts.access import SCOPES
from marketplace.models import AuditEntry
from provisioner.models import Cluster, ClusterLoop, GroupChange
from provisioner.preflight.judge import judge
from provisioner.preflight.rules import table
from provisioner.preflight.store import store
from tests.market import Supply, make_renter, make_supply
from tests.unit.provisioner.test_preflight import GOOD, READS, ROW, rights

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply(db: None) -> Supply:
    supply = make_supply(1)
    ClusterLoop.objects.create(
        cluster=supply.cluster,
        kind=ClusterLoop.Kind.PREFLIGHT,
        due_at=clock.now() + timedelta(hours=6),
    )
    return supply


def path_of(supply: Supply) -> str:
    return f"/provider/clusters/{public('cluster', supply.cluster.pk)}/preflight"


def show(supply: Supply) -> Any:
    status, found = supply.owner.call("GET", path_of(supply))
    assert status == 200, found
    return found


def found_in(supply: Supply, *, strong: bool) -> None:
    from provisioner.preflight.rights import Held

    facts = rights(excess=(Held(READS, ""),)) if strong else GOOD
    cluster = Cluster.objects.get(pk=supply.cluster.pk)
    store(cluster, judge(facts, ROW), at=clock.now(), may_open=True)


def test_before_the_first_look_every_rule_is_shown_without_a_result(supply: Supply) -> None:
    found = show(supply)
    assert (found["state"], found["takes_rentals"], found["checked_at"]) == ("waiting", True, None)
    assert [each["rule"] for each in found["rules"]] == [rule.slug for rule in table().rules]
    assert {each["outcome"] for each in found["rules"]} == {None}
    assert found["version"] == table().version


def test_a_gap_is_shown_with_what_was_measured_and_what_to_do(supply: Supply) -> None:
    found_in(supply, strong=True)
    found = show(supply)
    assert (found["state"], found["takes_rentals"]) == ("failed", False)
    by_rule = {each["rule"]: each for each in found["rules"]}
    gap = by_rule["rights_too_many"]
    assert gap["outcome"] == "fail"
    assert gap["stops"] is True
    assert gap["measured"] == "get on secrets in the whole cluster"
    assert gap["threshold"] == "none of the refused rights"
    assert "get on secrets in the whole cluster" in gap["fix"]
    assert gap["since"] == gap["checked_at"] == found["checked_at"]
    assert by_rule["server_version"]["fix"] == ""
    assert found["changes"][0]["outcome"] in {"pass", "fail", "unknown"}
    status, cluster = supply.owner.call("GET", path_of(supply).removesuffix("/preflight"))
    assert status == 200
    assert (cluster["preflight"], cluster["takes_rentals"]) == ("failed", False)
    assert "preflight" in cluster["actions"]


def test_an_offer_of_such_a_cluster_is_not_listed_and_says_why(supply: Supply) -> None:
    from provisioner.inventory import summary

    GroupChange.objects.create(group=supply.group)
    summary.refresh()

    def listed() -> tuple[bool, str | None]:
        (offer,) = supply.owner.call("GET", "/provider/offers")[1]["items"]
        return offer["listed"], offer["reason"]

    assert listed() == (True, None)
    found_in(supply, strong=True)
    summary.refresh()
    is_listed, reason = listed()
    assert not is_listed
    assert reason is not None
    assert "preflight" in reason
    found_in(supply, strong=False)
    summary.refresh()
    assert listed() == (True, None)


def test_asking_looks_again_at_once(supply: Supply) -> None:
    status, found = supply.owner.call("POST", path_of(supply), {})
    assert status == 202
    assert found["state"] == "waiting"
    loop = ClusterLoop.objects.get(kind=ClusterLoop.Kind.PREFLIGHT)
    assert loop.due_at <= clock.now()
    (row,) = AuditEntry.objects.filter(action="cluster.preflight")
    assert row.object == public("cluster", supply.cluster.pk)


def test_it_is_the_owners_alone(supply: Supply) -> None:
    stranger = make_renter("Others")
    for method, body in (("GET", None), ("POST", {})):
        assert stranger.call(method, path_of(supply), body)[0] == 404
    assert not AuditEntry.objects.filter(action="cluster.preflight").exists()
    assert {"provider:read", "provider:write"} <= set(SCOPES)
