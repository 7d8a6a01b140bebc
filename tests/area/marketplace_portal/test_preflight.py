"""A provider reads what its cluster lacks and what to do; everybody reads the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.utils.html import escape

from kernel import clock
from kernel.ids import public
from provisioner.models import Cluster, ClusterLoop
from provisioner.preflight.judge import judge
from provisioner.preflight.rights import Held
from provisioner.preflight.rules import table
from provisioner.preflight.store import store
from tests.area.marketplace_portal.visitors import Visitor, visitor_of
from tests.market import Supply, make_renter
from tests.unit.provisioner.test_preflight import GOOD, LATE, READS, ROW, rights


def found_in(supply: Supply, **changes: Any) -> str:
    """The page of a cluster in which this was found."""
    facts = replace(rights(excess=(Held(READS, "kube-system"),)), **changes)
    cluster = Cluster.objects.get(pk=supply.cluster.pk)
    store(cluster, judge(facts, ROW), at=clock.now(), may_open=True)
    return f"/provider/clusters/{public('cluster', cluster.pk)}/preflight"


def test_what_fails_is_shown_first_with_its_fix_to_copy(provider: Visitor, supply: Supply) -> None:
    page = provider.get(found_in(supply, version="v1.20.2", skew=31.0, policies=LATE)).text
    order = ("rights_too_many", "server_version", "clock_skew")
    places = [page.index(f'id="{rule}"') for rule in order]
    assert places == sorted(places)
    fix = "Remove from the roles that are bound to the account: get on secrets in kube-system."
    assert f'<code id="fix-rights_too_many">{fix}' in page
    assert "It takes no new rentals; what runs there goes on." in page
    assert all(rule.title in page for rule in table().rules)
    home = provider.get("/provider").text
    assert "breaks a rule, so it takes no new rentals" in home
    assert "/preflight" in home


def test_what_a_cluster_said_is_text(provider: Visitor, supply: Supply) -> None:
    page = provider.get(found_in(supply, version="<script>alert(1)</script>")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_cluster_in_order_shows_no_gap(provider: Visitor, supply: Supply) -> None:
    page = provider.get(found_in(supply, rights=GOOD.rights)).text
    assert "It takes new rentals" in page
    assert 'id="rights_too_many"' not in page
    assert "breaks a rule" not in provider.get("/provider").text


def test_checking_again_asks_at_once(provider: Visitor, supply: Supply) -> None:
    later = clock.now() + timedelta(hours=6)
    kind = ClusterLoop.Kind.PREFLIGHT
    ClusterLoop.objects.create(cluster=supply.cluster, kind=kind, due_at=later)
    path = found_in(supply)
    answer = provider.send(provider.get(path), f"{path}/check")
    assert answer["Location"] == path
    assert ClusterLoop.objects.get(kind=kind).due_at <= clock.now()
    assert "being checked" in provider.get(path).text
    other = visitor_of(make_renter("Other"))
    answer = other.post(f"{path}/check", {"idempotency_key": "x" * 20})
    assert answer.status_code == 404


def test_everybody_reads_the_rules(stranger: Visitor) -> None:
    page = stranger.get("/provider-rules").text
    for rule in table().rules:
        assert rule.title in page
        assert escape(rule.threshold) in page
    assert f"Version {table().version}." in page
