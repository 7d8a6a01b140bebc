"""From a look at a cluster to whether it takes new rentals; what runs there goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.test import override_settings

from kernel import clock
from kernel.errors import NotFound, VendorError
from provisioner import facade
from provisioner.clusters.register import seal_token
from provisioner.contracts import NoCandidate, NoStorage, PlacementRequest
from provisioner.contracts.preflight import Outcome, PreflightState, PreflightView, RuleResult
from provisioner.facade import preflight as door
from provisioner.inventory import summary
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.models import (
    Cluster,
    ClusterLoop,
    DeviceGroup,
    PreflightChange,
    PreflightResult,
)
from provisioner.preflight.rights import CLUSTER, POOL, Right, gives, needed
from provisioner.preflight.rules import table
from provisioner.preflight.store import KEPT
from provisioner.reconcile import preflight_loop
from provisioner.volumes.wish import check_cluster
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.test_clusters import enlist
from tests.area.provisioner.test_probes import FIGURES, OPEN_API, end_pods, visit
from tests.area.provisioner.yard import Yard, make_yard, plan, rent, row_of
from tests.unit.provisioner.test_nodes import node_json
from tests.unit.provisioner.test_preflight import ACCOUNT, signed

pytestmark = pytest.mark.django_db

Json = dict[str, Any]

SECRETS: Json = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}
_CLOSED: Json = {"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}


def _bundle(where: str) -> list[Json]:
    return [
        {
            "verbs": [each.right.verb],
            "apiGroups": [each.right.group],
            "resources": [each.right.resource],
            **({"resourceNames": [each.right.name]} if each.right.name else {}),
        }
        for each in needed()
        if each.where == where
    ]


class Answers:
    """A cluster with the provider's bundle, as a look at it sees it."""

    def __init__(self) -> None:
        self.namespaces = ["gpuyard-r-01", "gpuyard-r-02"]
        self.more: dict[str, list[Json]] = {}  # rights beyond the bundle's, by place
        self.error: VendorError | None = None
        self.before_answering: Callable[[], None] | None = None
        self.nodes = [node_json()]
        self.version = "v1.30.0"
        self.lets_in_all = False
        self.looks = 0

    def connect(self, _: Cluster) -> Answers:
        self.looks += 1
        if self.before_answering is not None:
            self.before_answering()
        return self

    def rules_in(self, namespace: str) -> list[Json]:
        place = POOL if namespace in self.namespaces else namespace
        return [*self._wide(), *(_bundle(place) if place else []), *self.more.get(namespace, [])]

    def _wide(self) -> list[Json]:
        return [*_bundle(CLUSTER), *self.more.get("", [])]

    def allowed(
        self, verb: str, resource: str, *, group: str, namespace: str, name: str = ""
    ) -> bool:
        rules = self.rules_in(namespace) if namespace else self._wide()
        return gives(rules, Right(verb, resource, group, name))

    def server_version(self) -> str:
        if self.error is not None:
            raise self.error
        return self.version

    def may_create_pods(self, namespace: str) -> bool:
        return namespace in self.namespaces

    def list_nodes(self) -> list[Json]:
        return self.nodes

    def every_node(self) -> Iterator[Json]:
        return iter(self.nodes)

    def try_pod(self, namespace: str, body: Json) -> Json:
        spec, main = body["spec"], body["spec"]["containers"][0]
        context = main["securityContext"]
        bad = (
            context.get("privileged")
            or "SYS_ADMIN" in context.get("capabilities", {}).get("add", [])
            or any("hostPort" in port for port in main.get("ports", []))
            or any("hostPath" in volume for volume in spec["volumes"])
            or spec.get("hostNetwork")
            or spec.get("hostPID")
        )
        if bad and not self.lets_in_all:
            raise Rejected("not_admitted", "403")
        return {"metadata": {"creationTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}}

    def list_network_policies(self, namespace: str) -> list[Json]:
        return [_CLOSED]

    def runtime_classes(self) -> list[str]:
        return []


@pytest.fixture
def answers() -> Answers:
    return Answers()


def token() -> str:
    now = datetime.now(UTC).timestamp()
    return signed({"sub": ACCOUNT, "iat": int(now), "exp": int(now) + 30 * 86400})


def stock(**cluster: Any) -> Yard:
    """A cluster with cards on sale, from before there was a preflight."""
    yard = make_yard(**cluster)
    Cluster.objects.update(token_sealed=seal_token(yard.cluster.pk, token()))
    return yard


def run(answers: Answers) -> None:
    ClusterLoop.objects.filter(kind="preflight").update(due_at=clock.now())
    preflight_loop.run(answers.connect)
    summary.refresh()


def seen(key: UUID) -> PreflightView:
    return door.preflight(cluster_id=key)


def rule(key: UUID, slug: str) -> RuleResult:
    return next(each for each in seen(key).rules if each.rule == slug)


def due_in(key: UUID) -> timedelta:
    return ClusterLoop.objects.get(cluster_id=key, kind="preflight").due_at - clock.now()


# --- what a look decides ------------------------------------------------------------------------


def test_a_new_cluster_sells_nothing_before_it_passed(answers: Answers) -> None:
    yard = stock(preflight_passed=False)
    summary.refresh()
    assert not plan(yard).candidates
    assert not DeviceGroup.objects.get().listed_ok
    run(answers)
    found = seen(yard.cluster.pk)
    assert (found.state, found.sells) == (PreflightState.PASSED, True), found.rules
    assert plan(yard).candidates
    assert DeviceGroup.objects.get().listed_ok


def test_registering_begins_with_nothing_looked_at() -> None:
    found = seen(enlist(token=token()))
    assert (found.state, found.sells, found.checked_at) == (PreflightState.WAITING, False, None)
    assert [each.rule for each in found.rules] == [rule.slug for rule in table().rules]
    assert {each.outcome for each in found.rules} == {None}


def test_an_existing_cluster_sells_until_its_first_look(answers: Answers) -> None:
    yard = stock()
    ClusterLoop.objects.filter(kind="preflight").delete()
    assert plan(yard).candidates
    answers.more[""] = [SECRETS]
    run(answers)
    assert not plan(yard).candidates
    assert ClusterLoop.objects.filter(cluster=yard.cluster, kind="preflight").count() == 1


def test_too_strong_a_token_takes_the_cards_off_sale_and_ends_nothing(answers: Answers) -> None:
    yard = stock()
    view = rent(yard)
    before = row_of(view)
    chosen = plan(yard)
    answers.more["kube-system"] = [SECRETS]
    run(answers)
    found = rule(yard.cluster.pk, "rights_too_many")
    assert (found.outcome, found.measured) == (Outcome.FAIL, "get on secrets in kube-system")
    assert "get on secrets in kube-system" in found.fix
    assert seen(yard.cluster.pk).state == PreflightState.FAILED
    assert not DeviceGroup.objects.get().listed_ok
    assert plan(yard).rejections == {"cluster_not_ready": 1}
    assert not facade.rooms(
        PlacementRequest((yard.group.pk,), 1, 1024, view.tenant_ref), rentals=[]
    )
    with pytest.raises(NoCandidate):  # chosen before, taken after
        rent(yard, given=chosen)
    with pytest.raises(NoStorage):
        check_cluster(Cluster(state="ready", storage_domain="cluster", preflight_passed=False))
    after = row_of(view)
    assert (after.state, after.desired, after.event_seq) == (
        before.state,
        before.desired,
        before.event_seq,
    )
    answers.more.clear()
    run(answers)
    assert plan(yard).candidates
    assert rule(yard.cluster.pk, "rights_too_many").fix == ""


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize(
    "error", [Unavailable("connect", "no"), Unsure("timeout", "no"), Unsure("not_json", "<html>")]
)
def test_silence_leaves_it_as_it_was(answers: Answers, error: VendorError, passed: bool) -> None:
    yard = stock(preflight_passed=passed)
    answers.error = error
    run(answers)
    found = seen(yard.cluster.pk)
    assert (found.state, found.sells) == (PreflightState.UNANSWERED, passed)
    assert rule(yard.cluster.pk, "pool").measured.startswith("could not be asked")


def test_a_cluster_that_cannot_be_connected_to_is_a_result_too(answers: Answers) -> None:
    yard = stock(token_sealed=b"of another key")
    Cluster.objects.update(token_sealed=b"of another key")

    def connect(_: Cluster) -> Answers:
        raise Rejected("unauthorized", "the stored token cannot be opened")

    assert preflight_loop.run(connect) == 0
    assert rule(yard.cluster.pk, "token_account").outcome == Outcome.FAIL


def test_what_breaks_in_a_look_is_the_clusters_state_and_no_crash(answers: Answers) -> None:
    yard = stock()
    answers.nodes = None  # type: ignore[assignment]
    run(answers)
    assert seen(yard.cluster.pk).state == PreflightState.UNANSWERED


# --- tokens and wishes that come meanwhile ------------------------------------------------------


def test_another_token_sells_nothing_until_it_is_known(answers: Answers) -> None:
    yard = stock()
    run(answers)
    with transaction.atomic():
        facade.replace_token(cluster_id=yard.cluster.pk, token=token())
    summary.refresh()
    assert seen(yard.cluster.pk).state == PreflightState.WAITING
    assert not plan(yard).candidates
    assert not DeviceGroup.objects.get().listed_ok
    assert due_in(yard.cluster.pk) <= timedelta(0)
    preflight_loop.run(answers.connect)
    assert plan(yard).candidates


def test_a_look_with_the_old_token_does_not_open_for_the_new_one(answers: Answers) -> None:
    yard = stock(preflight_passed=False)
    key, states = yard.cluster.pk, []

    def meanwhile() -> None:
        states.append((seen(key).state, seen(key).sells))
        if answers.looks == 1:
            with transaction.atomic():
                facade.replace_token(cluster_id=key, token=token())
        else:
            answers.more[""] = [SECRETS]  # what the new one may do

    answers.before_answering = meanwhile
    run(answers)
    preflight_loop.run(answers.connect)  # as the wish wakes it
    assert answers.looks == 2
    assert states[1] == (PreflightState.WAITING, False)
    assert seen(key).state == PreflightState.FAILED


def test_a_look_that_found_something_counts_whoever_asked_anew(answers: Answers) -> None:
    """Else asking again and again would keep a verdict away."""
    yard = stock()
    key, sells = yard.cluster.pk, []
    answers.more[""] = [SECRETS]

    def meanwhile() -> None:
        sells.append(seen(key).sells)
        if answers.looks < 3:
            with transaction.atomic():
                door.ask_again(cluster_id=key)

    answers.before_answering = meanwhile
    run(answers)
    for _ in range(3):
        preflight_loop.run(answers.connect)
    assert sells == [True, False, False]


def test_what_was_asked_for_comes_at_once(answers: Answers) -> None:
    yard = stock()
    run(answers)
    assert due_in(yard.cluster.pk) > timedelta(minutes=4)
    with transaction.atomic():
        door.ask_again(cluster_id=yard.cluster.pk)
    assert due_in(yard.cluster.pk) <= timedelta(0)
    with pytest.raises(NotFound):
        seen(UUID(int=0))


# --- when it is looked at again -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "fails", "reaper", "least", "most"),
    [
        (timedelta(hours=1), True, "running", 50, 60),
        (timedelta(minutes=1), True, "running", 5, 10),
        (timedelta(hours=1), False, "running", 21_500, 21_600),
        (timedelta(minutes=1), False, "unknown", 290, 300),
    ],
)
def test_how_soon_it_is_looked_at_again(
    answers: Answers, age: timedelta, fails: bool, reaper: str, least: int, most: int
) -> None:
    now = clock.now()
    beat = now if reaper == "running" else None
    yard = stock(created_at=now - age, reaper_seen_at=beat, reaper_version=1)
    if fails:
        answers.more[""] = [SECRETS]
    run(answers)
    assert least < due_in(yard.cluster.pk).total_seconds() <= most


# --- what is kept -------------------------------------------------------------------------------


def test_what_changed_is_kept_and_for_how_long(answers: Answers) -> None:
    yard = stock()
    key = yard.cluster.pk
    run(answers)
    first = seen(key)
    assert {change.before for change in first.changes} == {None}
    run(answers)
    assert seen(key).changes == first.changes
    since = rule(key, "rights_too_many").since
    answers.more[""] = [SECRETS]
    run(answers)
    newest, *_ = seen(key).changes
    assert (newest.rule, newest.before, newest.outcome) == (
        "rights_too_many",
        Outcome.PASS,
        Outcome.FAIL,
    )
    assert newest.measured == "get on secrets in the whole cluster"
    assert rule(key, "rights_too_many").since != since
    PreflightChange.objects.update(at=clock.now() - KEPT - timedelta(days=1))
    run(answers)
    assert not PreflightChange.objects.exists()
    assert PreflightResult.objects.filter(cluster=key).count() == len(table().rules)


def test_a_rule_that_the_table_lost_is_not_shown_any_more(answers: Answers) -> None:
    yard = stock()
    run(answers)
    PreflightResult.objects.filter(rule="pool").update(rule="of_old")
    run(answers)
    assert set(PreflightResult.objects.values_list("rule", flat=True)) == {
        rule.slug for rule in table().rules
    }
    assert len(seen(yard.cluster.pk).rules) == len(table().rules)


def test_a_slow_look_whose_claim_was_lost_writes_nothing(answers: Answers) -> None:
    yard = stock()
    answers.more[""] = [SECRETS]

    def lose() -> None:
        ClusterLoop.objects.update(claim_token=None, claim_until=None, due_at=at_hand)

    at_hand = clock.now() + timedelta(hours=1)
    answers.before_answering = lose
    run(answers)
    assert not PreflightResult.objects.exists()
    assert seen(yard.cluster.pk).sells
    assert due_in(yard.cluster.pk) > timedelta(minutes=50)


@override_settings(GPUYARD_BENCHMARK_WAIT=300)
def test_new_cards_wait_for_their_benchmark_and_for_a_while_only(answers: Answers) -> None:
    key = stock(preflight_passed=False).cluster.pk
    run(answers)
    assert not Cluster.objects.get().preflight_passed
    assert seen(key).state == PreflightState.WAITING
    run(answers)
    assert not Cluster.objects.get().preflight_passed
    Cluster.objects.update(benchmark_until=clock.now() - timedelta(seconds=1))
    run(answers)
    row = Cluster.objects.get()
    assert row.preflight_passed
    assert row.probation_from is not None
    assert DeviceGroup.objects.get().listed_ok


@override_settings(GPUYARD_BENCHMARK_WAIT=300)
def test_cards_that_were_measured_wait_no_longer(answers: Answers) -> None:
    stock(preflight_passed=False)
    run(answers)
    cluster = MemoryCluster()
    for _ in range(12):
        visit(cluster)
        end_pods(cluster, bench=FIGURES, probe=OPEN_API)
    assert Cluster.objects.get().benchmarked_at is not None
    preflight_loop.run(answers.connect)  # woken
    row = Cluster.objects.get()
    assert row.preflight_passed
    assert row.network_policy == "open"
    found = PreflightResult.objects.get(rule="policy_enforced")
    assert (found.outcome, found.measured) == ("warn", "reached: api (10.96.0.1:443)")


@override_settings(GPUYARD_BENCHMARK_WAIT=300)
def test_a_cluster_that_sold_before_waits_for_nothing(answers: Answers) -> None:
    stock(preflight_passed=False, probation_from=clock.now())
    run(answers)
    assert Cluster.objects.get().preflight_passed
