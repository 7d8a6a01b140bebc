"""Facts judged by the published table, rule by rule, and what hostile answers become."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import VendorError
from provisioner.inventory.accelerators import families
from provisioner.kube.errors import Rejected, Unavailable, Unsure
from provisioner.preflight import judge as judging
from provisioner.preflight import probes
from provisioner.preflight.facts import (
    ADMITTED,
    REFUSED,
    Facts,
    MachineFacts,
    NetworkFacts,
    PodFacts,
    PolicyFacts,
    PullFacts,
    RightsFacts,
    RowFacts,
    TokenFacts,
    Trial,
    Unasked,
    nothing,
)
from provisioner.preflight.judge import FAIL, PASS, UNKNOWN, WARN, judge, verdict
from provisioner.preflight.machines import machines
from provisioner.preflight.probes import Known, token_facts
from provisioner.preflight.rights import (
    EVERYTHING,
    Held,
    Right,
    gives,
    listed,
    refused,
    too_much,
    widest,
)
from provisioner.preflight.rules import table
from tests.unit.provisioner.test_nodes import node_json

Json = dict[str, Any]

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SPACE = "gpuyard-r-01"
ACCOUNT = "system:serviceaccount:gpuyard-system:gpuyard"
GOOD = Facts(
    asked_at=NOON,
    version="v1.30.1",
    token=TokenFacts(ACCOUNT, NOON - timedelta(days=1), NOON + timedelta(days=29)),
    token_rejected=False,
    skew=0.4,
    namespaces=(SPACE, "gpuyard-r-02"),
    rights=RightsFacts(),
    pods=PodFacts(ADMITTED, (Trial("privileged", SPACE, REFUSED),)),
    machines=MachineFacts(both=2, drivers_told=2),
    policies=PolicyFacts(closed=2),
    classes=(),
)
ROW = RowFacts("node", "local is the cluster's default class.", "running", 12.0)
LATE = Unasked("timeout")
READS = Right("get", "secrets")


def outcomes(facts: Facts = GOOD, row: RowFacts = ROW) -> dict[str, str]:
    return {result.rule: result.outcome for result in judge(facts, row)}


def test_the_table_is_judged_whole_and_in_its_order() -> None:
    results = judge(GOOD, ROW)
    assert [result.rule for result in results] == [rule.slug for rule in table().rules]
    assert {result.version for result in results} == {table().version}
    assert {result.rule for result in results if result.outcome != PASS} == {
        "policy_enforced",
        "pull_speed",
    }
    assert all(result.measured and result.threshold for result in results)
    assert not any(result.fix for result in results)


def test_a_gap_has_its_fix_and_what_nobody_knows_has_none() -> None:
    found = judge(replace(GOOD, version="v1.21.0", policies=LATE, skew=301.0), ROW)
    assert {result.rule for result in found if result.fix} == {"server_version", "clock_skew"}


def token(*, life: timedelta = timedelta(days=30), left: timedelta = timedelta(days=9)) -> Facts:
    return replace(GOOD, token=TokenFacts(ACCOUNT, NOON + left - life, NOON + left))


def rights(**found: Any) -> Facts:
    return replace(GOOD, rights=RightsFacts(**found))


def pods(plain: str | Unasked, *verdicts: str | Unasked) -> Facts:
    trials = tuple(Trial(f"kind {n}", SPACE, each) for n, each in enumerate(verdicts))
    return replace(GOOD, pods=PodFacts(plain, trials))


def _subject(name: str) -> Facts:
    return replace(GOOD, token=TokenFacts(name))


def _policies(*unclosed: str, silent: Unasked | None = None) -> Facts:
    return replace(GOOD, policies=PolicyFacts(1, unclosed, (silent,) if silent else ()))


def nodes(**found: Any) -> Facts:
    return replace(GOOD, machines=MachineFacts(**{"both": 2, **found}))


CASES: list[tuple[str, str, str, Facts]] = [
    ("server_version", FAIL, "v1.19.16", replace(GOOD, version="v1.19.16")),
    ("server_version", FAIL, "no version", replace(GOOD, version="")),
    ("server_version", WARN, "v1.21.9+k3s1", replace(GOOD, version="v1.21.9+k3s1")),
    ("server_version", PASS, "v1.22.0", replace(GOOD, version="v1.22.0")),
    ("server_version", UNKNOWN, "could not be asked: timeout", replace(GOOD, version=LATE)),
    ("token_account", FAIL, "the server rejects", replace(GOOD, token_rejected=True)),
    ("token_account", FAIL, "kubernetes-admin: no", _subject("kubernetes-admin")),
    ("token_account", FAIL, "nobody", _subject("")),
    ("token_account", WARN, "x:y", _subject("system:serviceaccount:x:y")),
    ("token_account", UNKNOWN, "could not be asked", replace(GOOD, rights=LATE)),
    ("token_life", WARN, "granted for 47 hours", token(life=timedelta(hours=47))),
    ("token_life", PASS, "granted for 2 days", token(life=timedelta(hours=48))),
    ("token_life", FAIL, "expired at 2026-06-01 12:00", token(left=timedelta(0))),
    ("token_life", WARN, "names no end", replace(GOOD, token=TokenFacts(ACCOUNT))),
    ("clock_skew", PASS, "30 s apart", replace(GOOD, skew=-30.0)),
    ("clock_skew", WARN, "31 s behind ours", replace(GOOD, skew=-31.0)),
    ("clock_skew", WARN, "300 s ahead of ours", replace(GOOD, skew=300.0)),
    ("clock_skew", FAIL, "301 s ahead of ours", replace(GOOD, skew=301.0)),
    ("pool", FAIL, "none", replace(GOOD, namespaces=())),
    ("pool", PASS, "2, to gpuyard-r-02", GOOD),
    ("rights_needed", FAIL, "get on secrets in gpuyard", rights(missing=(Held(READS, SPACE),))),
    ("rights_needed", UNKNOWN, "1 questions could not be asked", rights(unasked=(LATE,))),
    ("rights_too_many", FAIL, "get on secrets in the whole", rights(excess=(Held(READS, ""),))),
    # What is known to be too much is not excused by what nobody answered.
    ("rights_too_many", FAIL, "in x", rights(excess=(Held(READS, "x"),), unasked=(LATE,))),
    ("rights_too_many", UNKNOWN, "1 questions", rights(unasked=(LATE,))),
    ("forbidden_pods", FAIL, "let in: kind 1 (in gpuyard-r-01)", pods(ADMITTED, REFUSED, ADMITTED)),
    # A server that lets in neither ours nor theirs proves nothing about its policy.
    ("forbidden_pods", FAIL, "our own pod is refused: no", pods("no", REFUSED)),
    ("forbidden_pods", FAIL, "let in: kind 0", pods(LATE, ADMITTED)),
    ("forbidden_pods", UNKNOWN, "the namespace's quota is full", pods(Unasked("quota"), REFUSED)),
    ("forbidden_pods", UNKNOWN, "kind 1 in gpuyard-r-01: timeout", pods(ADMITTED, REFUSED, LATE)),
    ("forbidden_pods", UNKNOWN, "no namespace", replace(GOOD, pods=Unasked("no_namespaces"))),
    ("nodes_set_aside", FAIL, "0 with label and taint", nodes(both=0)),
    ("nodes_set_aside", WARN, "without the taint: a", nodes(only_label=("a",))),
    ("nodes_set_aside", WARN, "without the label: b", nodes(only_taint=("b",))),
    ("nodes_set_aside", WARN, "could not be asked for", nodes(only_taint=LATE)),
    ("nodes_set_aside", UNKNOWN, "could not", replace(GOOD, machines=LATE)),
    ("resource_names", WARN, "acme.com/gpu on 3 nodes", nodes(unknown=(("acme.com/gpu", 3),))),
    ("resource_names", UNKNOWN, "no node of the pool", nodes(both=0)),
    ("advertised_once", FAIL, "Twice.", nodes(doubled=("Twice.",))),
    ("driver_floor", WARN, "a has 4, the floor is 5", nodes(old_drivers=(("a", "4", "5"),))),
    ("driver_floor", PASS, "no label tells", nodes()),
    ("network_policy", FAIL, "gpuyard-r-02", _policies("gpuyard-r-02")),
    ("network_policy", UNKNOWN, "1 namespaces", _policies(silent=LATE)),
    ("policy_enforced", UNKNOWN, "not tried", GOOD),
    ("pull_speed", UNKNOWN, "not tried", GOOD),
    ("toolkit_floor", WARN, "a has 11.8, the floor is 12.0",
        nodes(old_toolkits=(("a", "11.8", "12.0"),))),
    ("toolkit_floor", PASS, "at or above the floor on 2 nodes", nodes(toolkits_told=2)),
    ("runtime_class", PASS, "none is needed", nodes()),
    ("runtime_class", FAIL, "kata", nodes(classes_wanted=("kata",))),
    ("runtime_class", PASS, "kata", replace(nodes(classes_wanted=("kata",)), classes=("kata",))),
    ("runtime_class", UNKNOWN, "timeout", replace(nodes(classes_wanted=("k",)), classes=LATE)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "outcome", "measured", "facts"), CASES)
def test_a_rule_judges_what_was_measured(
    rule: str, outcome: str, measured: str, facts: Facts
) -> None:
    found = next(result for result in judge(facts, ROW) if result.rule == rule)
    assert found.outcome == outcome, found
    assert measured in found.measured


@pytest.mark.parametrize(
    ("rule", "outcome", "row"),
    [
        ("storage_domain", WARN, replace(ROW, storage_domain="none")),
        ("reaper", WARN, replace(ROW, reaper_state="silent")),
        ("reaper", UNKNOWN, replace(ROW, reaper_state="unknown")),
        ("relay", WARN, replace(ROW, relay_age=None)),
        ("policy_enforced", WARN, replace(ROW, network=NetworkFacts(False, "reached: api"))),
        ("policy_enforced", PASS, replace(ROW, network=NetworkFacts(True, "nothing"))),
        ("policy_enforced", UNKNOWN, replace(ROW, network=NetworkFacts(None, "no word"))),
        ("pull_speed", PASS, replace(ROW, pull=PullFacts(30.0, True))),
        ("pull_speed", WARN, replace(ROW, pull=PullFacts(30.1, True))),
        ("pull_speed", UNKNOWN, replace(ROW, pull=PullFacts(None, True))),
        ("relay", WARN, replace(ROW, relay_age=301.0)),
        ("relay", PASS, replace(ROW, relay_age=300.0)),
    ],
)
def test_a_rule_judges_what_other_loops_know(rule: str, outcome: str, row: RowFacts) -> None:
    assert outcomes(row=row)[rule] == outcome


def test_silence_neither_opens_nor_closes() -> None:
    quiet = judge(nothing(GOOD.token, LATE, at=NOON), ROW)
    assert verdict(quiet, before=True) is True
    assert verdict(quiet, before=False) is False


def test_a_failed_rule_closes_and_a_warning_does_not() -> None:
    failed = judge(rights(excess=(Held(READS, ""),)), ROW)
    assert verdict(failed, before=True) is False
    warned = judge(nodes(unknown=(("acme.com/gpu", 3),)), replace(ROW, relay_age=None))
    assert WARN in {result.outcome for result in warned}
    assert verdict(warned, before=False) is True


def test_rules_that_only_warn_never_fail() -> None:
    """Whatever is found: their severity says so to everybody who reads the table."""
    warning = {rule.slug for rule in table().rules if not rule.stops}
    found = {case[0] for case in CASES if case[1] == FAIL}
    assert not warning & found


# --- rights as roles give them ------------------------------------------------------------------


def role(verbs: list[str], resources: list[str], group: str = "", *names: str) -> Json:
    rule: Json = {"verbs": verbs, "apiGroups": [group], "resources": resources}
    return {**rule, "resourceNames": list(names)} if names else rule


@pytest.mark.parametrize(
    ("rule", "given"),
    [
        (role(["get"], ["secrets"]), True),
        (role(["*"], ["secrets"]), True),
        (role(["get"], ["*"]), True),
        (role(["get"], ["*"], "*"), True),
        (role(["list"], ["secrets"]), False),
        (role(["get"], ["secrets"], "apps"), False),
        (role(["get"], ["secrets/status"]), False),
        (role(["get"], ["secrets"], "", "one"), False),
        ({"verbs": "get", "apiGroups": [""], "resources": ["secrets"]}, False),
        ({"verbs": [1, None], "apiGroups": {}, "resources": 7}, False),
        ({}, False),
    ],
)
def test_a_rule_gives_what_kubernetes_says_it_gives(rule: Json, given: bool) -> None:
    assert gives([rule], READS) is given


def test_a_part_of_a_resource_is_given_by_its_own_name_only() -> None:
    run = Right("create", "pods/exec")
    assert gives([role(["create"], ["pods/exec"])], run)
    assert gives([role(["create"], ["*/exec"])], run)
    assert not gives([role(["create"], ["pods"])], run)


def test_what_the_bundle_gives_is_never_too_much() -> None:
    assert too_much([role(["create"], ["pods"])], SPACE, [SPACE]) == []
    own = role(["create"], ["serviceaccounts/token"], "", "gpuyard")
    assert too_much([own], "gpuyard-system", [SPACE]) == []
    other = role(["create"], ["serviceaccounts/token"], "", "gpuyard", "admin")
    assert too_much([other], "gpuyard-system", [SPACE])
    assert too_much([own], "kube-system", [SPACE])
    assert too_much([role(["create"], ["pods"])], "default", [SPACE])


def test_the_widest_place_is_named_and_everything_says_it_all() -> None:
    wide, narrow, other = Held(READS, ""), Held(READS, SPACE), Held(Right("list", "secrets"), "x")
    assert widest([narrow, other, wide, narrow]) == (wide, other)
    assert widest([wide, Held(EVERYTHING, "")]) == (Held(EVERYTHING, ""),)
    assert listed([Held(READS, place) for place in "abcde"]) == (
        "get on secrets in a and 4 other namespaces"
    )
    both = [Held(READS, ""), Held(Right("list", "secrets"), "")]
    assert listed(both) == "get, list on secrets in the whole cluster"


# --- what nodes say -----------------------------------------------------------------------------


def test_a_resource_that_nobody_knows_is_named_once() -> None:
    strange = {"acme.com/npu": 4, "nvidia.com/gpu": 8, "rdma/hca": 1, "gone.example.com/x": 0}
    found = machines(
        [node_json(devices=strange), node_json(devices=strange, name="node-2")], only_taint=()
    )
    assert found.unknown == (("acme.com/npu", 2),)
    assert found.both == 2


def test_one_model_under_two_names_names_both() -> None:
    both = {"nvidia.com/gpu": 8, "nvidia.com/gpu.shared": 8}
    (said,) = machines([node_json(devices=both)], only_taint=()).doubled
    assert "nvidia.com/gpu" in said
    assert "nvidia.com/gpu.shared" in said


def test_a_driver_is_held_against_the_familys_floor() -> None:
    old = {"nvidia.com/cuda.driver.major": "470", "nvidia.com/cuda.driver.minor": "57"}
    labels = {**node_json()["metadata"]["labels"], **old, "nvidia.com/cuda.driver.rev": "02"}
    found = machines([node_json(labels=labels), node_json(name="new")], only_taint=())
    floor = families()["nvidia.com/gpu"].driver_floor
    assert found.old_drivers == (("node-1", "470.57.02", floor),)
    assert found.drivers_told == 2


# --- hostile answers ----------------------------------------------------------------------------

LONG = "x" * 1_000_000
HOSTILE: list[Any] = [
    LONG,
    "<script>alert(1)</script>\x1b[31m\u202e",
    None,
    7,
    1e400,
    [],
    {},
    [LONG] * 3,
    {"metadata": LONG, "spec": LONG, "status": [LONG]},
    {"metadata": {"name": LONG, "creationTimestamp": LONG, "labels": {"gpuyard.io/pool": "rental"}},
     "spec": {"taints": LONG, "podSelector": LONG, "policyTypes": [None, LONG]},
     "status": {"capacity": {LONG: LONG, "acme.com/x": {"a": LONG}}, "allocatable": LONG}},
    {"metadata": {"name": LONG, "uid": LONG, "labels": {"gpuyard.io/pool": "rental", LONG: LONG}},
     "spec": {"taints": [{"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}]},
     "status": {"capacity": {"nvidia.com/gpu": LONG, "<b>/x": "1", "acme.com/" + "y" * 60: "1"}}},
    {"verbs": [LONG, "*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": [LONG, 1]},
]  # fmt: skip


class Liar:
    """Says the same to everything, or fails at everything."""

    def __init__(self, said: Any, *, error: VendorError | None = None) -> None:
        self.said = said
        self.error = error

    def _say(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.said

    def _map(self) -> Json:
        said = self._say()
        return said if isinstance(said, dict) else {}

    def server_version(self) -> str:
        return str(self._say())[:40]

    def may_create_pods(self, namespace: str) -> bool:
        self._say()
        return namespace == SPACE

    def list_nodes(self) -> list[Json]:
        return [self._map()]

    def every_node(self) -> Iterator[Json]:
        yield self._map()

    def allowed(
        self, verb: str, resource: str, *, group: str, namespace: str, name: str = ""
    ) -> bool:
        self._say()
        return False

    def rules_in(self, namespace: str) -> list[Json]:
        return [self._map()]

    def try_pod(self, namespace: str, body: Json) -> Json:
        return self._map()

    def list_network_policies(self, namespace: str) -> list[Json]:
        return [self._map()]

    def runtime_classes(self) -> list[str]:
        return [str(self._say())[:253]]


def known(token: str = "") -> Known:
    return Known(
        token, (), f"registry.example.com/tools@sha256:{'0' * 64}", "https://r.test/", NOON
    )


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_cluster_says_is_plain_and_short(said: Any) -> None:
    results = judge(probes.look(Liar(said), known()), ROW)
    assert [result.rule for result in results] == [rule.slug for rule in table().rules]
    for result in results:
        assert len(result.measured) <= judging.MEASURED_LIMIT
        assert len(result.fix) <= judging.MEASURED_LIMIT + 500
        assert result.measured.isprintable()
        assert "\u202e" not in result.measured


@pytest.mark.parametrize(
    "error",
    [
        Rejected("forbidden", LONG),
        Rejected("unauthorized", LONG),
        Rejected("not_admitted", LONG),
        Unavailable("busy", LONG),
        Unsure("not_json", "<html>"),
    ],
    ids=lambda error: error.code,
)
def test_no_answer_is_a_fact_of_every_rule(error: VendorError) -> None:
    results = judge(probes.look(Liar(None, error=error), known()), ROW)
    told = {"storage_domain", "reaper", "relay", "token_account", "token_life"}
    told |= {"policy_enforced", "pull_speed"}
    others = [result for result in results if result.rule not in told]
    assert {result.outcome for result in others} == {UNKNOWN}
    assert all("could not be asked" in result.measured for result in others)


def test_one_question_without_an_answer_takes_no_other_along() -> None:
    class Deaf(Liar):
        def list_network_policies(self, namespace: str) -> list[Json]:
            raise Unsure("timeout", "no answer")

    found = outcomes(probes.look(Deaf({}), known()))
    assert found["network_policy"] == UNKNOWN
    assert found["pool"] == PASS


def test_a_look_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not asked in time is asked next time."""
    monkeypatch.setattr(probes, "LOOK_SECONDS", -1.0)
    results = judge(probes.look(Liar({}), known()), ROW)
    assert "took too long" in results[0].measured


# --- what a token says of itself ----------------------------------------------------------------


def signed(claims: Any) -> str:
    text = json.dumps(claims).encode()
    return f"a.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.b"


def test_a_token_says_whose_it_is_and_how_long_it_lives() -> None:
    found = token_facts(signed({"sub": ACCOUNT, "iat": 1_780_000_000, "exp": 1_780_003_600}))
    assert found.subject == ACCOUNT
    assert found.issued_at is not None
    assert found.expires_at is not None
    assert (found.expires_at - found.issued_at) == timedelta(hours=1)


@pytest.mark.parametrize(
    "given",
    ["", "plain", "a.b", "a.%%%.c", signed([]), signed("x"), f"a.{LONG}.c", "a." + "W1tb" * 90000],
)
def test_what_is_no_token_of_an_account_says_nothing(given: str) -> None:
    assert token_facts(given) == TokenFacts()


@pytest.mark.parametrize(
    "moment", [True, "now", None, 1e300, float("nan"), float("inf"), -1e18, []]
)
def test_a_time_that_is_none_is_none(moment: Any) -> None:
    assert token_facts(signed({"sub": "x", "exp": moment})).expires_at is None


def test_the_providers_guide_shows_the_present_table() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "providers.md").read_text()
    lines = [
        f"Version {table().version}.",
        "",
        "| rule | passes with | otherwise |",
        "|---|---|---|",
    ]
    lines += [
        f"| **{rule.title}** (`{rule.slug}`): {rule.why} | {rule.threshold} |"
        f" {'fail' if rule.stops else 'warn'} |"
        for rule in table().rules
    ]
    shown = guide.partition("differ -->\n")[2].partition("\n<!-- end")[0]
    assert shown == "\n".join(lines)


def test_no_kind_of_refused_right_is_named_twice() -> None:
    rights_of = [(entry.right.verb, entry.right.group, entry.right.resource) for entry in refused()]
    assert len(rights_of) == len(set(rights_of))
