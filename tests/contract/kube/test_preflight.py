"""What a preflight finds out of a real and of a simulated server: everything in order with the
provider's bundle, and each right that makes a token too strong, by name."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from devstack.kube.api import Api, ApiError
from devstack.kube.provision import request_token
from provisioner.kube.client import Client
from provisioner.kube.questions import KubernetesQuestions
from provisioner.preflight import probes, trials
from provisioner.preflight.facts import Facts, PodFacts, RowFacts
from provisioner.preflight.judge import FAIL, PASS, UNKNOWN, WARN, Result, judge
from provisioner.preflight.probes import Known
from provisioner.preflight.rights import POOL, SYSTEM, needed
from tests.contract.kube.conftest import SPACE, Kube, until

Json = dict[str, Any]

IMAGE = "registry.example.com/gpuyard/podtools@sha256:" + "0" * 64
POOL_NAMES = ("gpuyard-r-01", "gpuyard-r-02", "gpuyard-r-03")
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROW = RowFacts("cluster", "a class", "running", 1.0)
STRONGER = "stronger"


def known(token: str) -> Known:
    return Known(token, (), IMAGE, "https://report.example.com/", datetime.now(UTC))


def look(kube: Kube, token: str = "") -> Facts:
    client = kube.make_client(**({"token": token} if token else {}))
    return probes.look(KubernetesQuestions(client), known(token or kube.cluster.token))


def results(facts: Facts) -> dict[str, Result]:
    return {result.rule: result for result in judge(facts, ROW)}


def outcome(kube: Kube, rule: str, token: str = "") -> tuple[str, str]:
    found = results(look(kube, token))[rule]
    return found.outcome, found.measured


class Counted(Client):
    """Counts what is asked."""

    asked: Counter[str] = Counter()

    def request(self, method: str, path: str, **given: Any) -> Json:
        self.asked[f"{method} {path.rpartition('/')[2]}"] += 1
        return super().request(method, path, **given)


def test_a_cluster_with_the_bundle_passes(
    kube: Kube, record_property: Callable[[str, object], None]
) -> None:
    """Prints how many questions that takes, and how long."""
    client = kube.make_client()
    client.__class__, Counted.asked = Counted, Counter()
    began = time.monotonic()
    facts = probes.look(KubernetesQuestions(client), known(kube.cluster.token))
    taken = time.monotonic() - began
    line = f"{kube.kind}: {Counted.asked.total()} questions in {taken:.2f} s: {Counted.asked}"
    record_property("measured", line)
    print(line)
    found = results(facts)
    shown = "\n".join(f"{each.outcome} {each.rule}: {each.measured}" for each in found.values())
    print(shown)
    others = {rule: each.outcome for rule, each in found.items() if each.outcome != PASS}
    # 1.20 is what both servers are; a look starts no pod, so what probes tell is not known here.
    expected = {"server_version": WARN, "policy_enforced": UNKNOWN, "pull_speed": UNKNOWN}
    assert others == expected, shown
    assert facts.namespaces == POOL_NAMES


# --- rights that are too many -------------------------------------------------------------------

_ADMISSION = "admissionregistration.k8s.io"
# (what, verbs, group, resources, namespaces; none: the whole cluster)
TOO_STRONG = [
    ("everything", ["*"], "*", ["*"], []),
    ("secrets in the pool", ["get"], "", ["secrets"], [SPACE]),
    ("secrets of one later namespace", ["list"], "", ["secrets"], ["gpuyard-r-03"]),
    ("secrets in kube-system", ["list"], "", ["secrets"], ["kube-system"]),
    ("secrets everywhere", ["watch"], "", ["secrets"], []),
    ("exec", ["create"], "", ["pods/exec"], [SPACE]),
    ("attach", ["create"], "", ["pods/attach"], [SPACE]),
    ("port-forward", ["create"], "", ["pods/portforward"], [SPACE]),
    ("ephemeral containers", ["patch"], "", ["pods/ephemeralcontainers"], [SPACE]),
    ("node update", ["update"], "", ["nodes"], []),
    ("node patch", ["patch"], "", ["nodes"], []),
    ("node delete", ["delete"], "", ["nodes"], []),
    ("node proxy", ["get"], "", ["nodes/proxy"], []),
    ("node proxy create", ["create"], "", ["nodes/proxy"], []),
    ("namespaces", ["create"], "", ["namespaces"], []),
    ("namespace deletion", ["delete"], "", ["namespaces"], []),
    ("roles", ["create"], "rbac.authorization.k8s.io", ["roles"], [SPACE]),
    ("role bindings", ["create"], "rbac.authorization.k8s.io", ["rolebindings"], ["kube-system"]),
    ("cluster roles", ["escalate"], "rbac.authorization.k8s.io", ["clusterroles"], []),
    ("bind", ["bind"], "rbac.authorization.k8s.io", ["clusterroles"], []),
    ("cluster bindings", ["create"], "rbac.authorization.k8s.io", ["clusterrolebindings"], []),
    ("impersonate users", ["impersonate"], "", ["users"], []),
    ("impersonate groups", ["impersonate"], "", ["groups"], []),
    ("impersonate accounts", ["impersonate"], "", ["serviceaccounts"], []),
    ("validation", ["create"], _ADMISSION, ["validatingwebhookconfigurations"], []),
    ("mutation", ["update"], _ADMISSION, ["mutatingwebhookconfigurations"], []),
    ("tokens of others", ["create"], "", ["serviceaccounts/token"], ["kube-system"]),
    ("tokens of all our accounts", ["create"], "", ["serviceaccounts/token"], [SYSTEM]),
    ("pods everywhere", ["create"], "", ["pods"], []),
    ("pods in kube-system", ["create"], "", ["pods"], ["kube-system"]),
    ("pods in default", ["create"], "", ["pods"], ["default"]),
    ("certificates", ["create"], "certificates.k8s.io", ["certificatesigningrequests"], []),
    ("approval", ["update"], "certificates.k8s.io", ["certificatesigningrequests/approval"], []),
    ("volumes", ["create"], "", ["persistentvolumes"], []),
    ("daemon sets", ["create"], "apps", ["daemonsets"], []),
    ("deployments", ["create"], "apps", ["deployments"], []),
]  # fmt: skip


@contextmanager
def account(kube: Kube, rule: Json | None, spaces: list[str]) -> Iterator[str]:
    """The token of a fresh account with the bundle's roles and one more rule."""
    with ExitStack() as made:
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
        _made(kube.admin, made, path, {"metadata": {"name": STRONGER}})
        for space in POOL_NAMES:
            _bind(kube.admin, made, "gpuyard-rental", space)
        _bind(kube.admin, made, "gpuyard-inventory", "")
        if rule is not None:
            _made(
                kube.admin,
                made,
                f"{RBAC}/clusterroles",
                {"metadata": {"name": STRONGER}, "rules": [rule]},
            )
            for space in spaces or [""]:
                _bind(kube.admin, made, STRONGER, space)
        yield request_token(kube.admin, account=STRONGER)


def _bind(admin: Api, made: ExitStack, role: str, space: str) -> None:
    kind = "rolebindings" if space else "clusterrolebindings"
    body = {
        "metadata": {"name": f"{STRONGER}-{role}"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"kind": "ServiceAccount", "name": STRONGER, "namespace": SYSTEM}],
    }
    _made(admin, made, f"{RBAC}/namespaces/{space}/{kind}" if space else f"{RBAC}/{kind}", body)


def _made(admin: Api, made: ExitStack, path: str, body: Json) -> None:
    admin.post(path, body)
    made.callback(admin.delete, f"{path}/{body['metadata']['name']}")


@pytest.mark.parametrize(
    ("verbs", "group", "resources", "spaces"),
    [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in TOO_STRONG],
)
def test_a_token_that_can_do_too_much_is_refused_by_name(
    kube: Kube, verbs: list[str], group: str, resources: list[str], spaces: list[str]
) -> None:
    rule = {"verbs": verbs, "apiGroups": [group], "resources": resources}
    with account(kube, rule, spaces) as token:
        questions = KubernetesQuestions(kube.make_client(token=token))
        where = spaces[0] if spaces else ""
        # A real server learns of new roles a moment later.
        until(
            "the right is in force",
            lambda: (
                questions.allowed(verbs[0], resources[0], group=group, namespace=where)
                and questions.may_create_pods(POOL_NAMES[-1])
            ),
        )
        found = results(look(kube, token))["rights_too_many"]
    assert found.outcome == FAIL, found.measured
    place = f"in {where}" if where else "in the whole cluster"
    assert found.measured == f"{verbs[0]} on {resources[0]} {place}"
    assert found.measured in found.fix


def test_a_right_to_one_object_only_is_seen_too(kube: Kube) -> None:
    """No question about all objects finds it; the list of its own rules does."""
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}
    with account(kube, rule, ["gpuyard-r-02"]) as token:
        questions = KubernetesQuestions(kube.make_client(token=token))
        until(
            "the right is in force",
            lambda: questions.allowed(
                "get", "secrets", group="", namespace="gpuyard-r-02", name="a"
            ),
        )
        found = outcome(kube, "rights_too_many", token)
    assert found == (FAIL, "get on secrets in gpuyard-r-02")


def test_another_account_of_the_bundles_rights_is_told_and_lacks_its_own_renewal(
    kube: Kube,
) -> None:
    with account(kube, None, []) as token:
        questions = KubernetesQuestions(kube.make_client(token=token))
        until("bound", lambda: questions.allowed("list", "nodes", group="", namespace=""))
        until("bound", lambda: questions.may_create_pods(POOL_NAMES[-1]))
        found = results(look(kube, token))
    assert found["rights_too_many"].outcome == PASS
    assert (found["token_account"].outcome, found["token_account"].measured) == (
        WARN,
        f"system:serviceaccount:{SYSTEM}:{STRONGER}",
    )
    assert found["rights_needed"].measured == (
        f"create on serviceaccounts/token in {SYSTEM}; get on leases in {SYSTEM}"
    )


# --- rights that are missing --------------------------------------------------------------------


@contextmanager
def changed(admin: Api, path: str, change: Callable[[Json], None]) -> Iterator[None]:
    """An object of the bundle as its provider might have spoilt it, and put right again."""
    before = admin.get(path)
    body: Json = {key: before[key] for key in ("apiVersion", "kind", "rules") if key in before}
    spoilt = copy.deepcopy({**body, "metadata": {"name": before["metadata"]["name"]}})
    change(spoilt)
    admin.call("PUT", path, spoilt)
    try:
        yield
    finally:
        admin.call("PUT", path, {**body, "metadata": {"name": before["metadata"]["name"]}})


def test_each_missing_right_is_named(kube: Kube) -> None:
    def without(role: Json) -> None:
        for rule in role["rules"]:
            if rule["resources"] == ["pods"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb not in ("watch", "delete")]

    path = f"{RBAC}/clusterroles/gpuyard-rental"
    with changed(kube.admin, path, without):
        questions = KubernetesQuestions(kube.make_client())
        until("gone", lambda: not questions.allowed("watch", "pods", group="", namespace=SPACE))
        found = outcome(kube, "rights_needed")
    assert found == (FAIL, f"watch, delete on pods in {', '.join(POOL_NAMES)}")
    until("back", lambda: questions.allowed("watch", "pods", group="", namespace=SPACE))


def test_a_server_without_the_bundle_has_no_pool(kube: Kube) -> None:
    with ExitStack() as made:
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
        _made(kube.admin, made, path, {"metadata": {"name": STRONGER}})
        token = request_token(kube.admin, account=STRONGER)
        found = results(look(kube, token))
    assert found["pool"].outcome == FAIL
    assert found["rights_needed"].outcome == FAIL
    assert found["forbidden_pods"].outcome == UNKNOWN
    assert found["rights_too_many"].outcome == PASS


# --- pods and policies --------------------------------------------------------------------------


def test_what_a_weaker_policy_lets_in_is_named(kube: Kube) -> None:
    """Also in one namespace of many: the policy is bound there alone."""
    policy = kube.admin.get("/apis/policy/v1beta1/podsecuritypolicies")["items"][0]
    loose = {
        "metadata": {"name": STRONGER, "annotations": policy["metadata"].get("annotations", {})},
        "spec": {**policy["spec"], "privileged": True, "allowPrivilegeEscalation": True},
    }
    loose["spec"]["allowedCapabilities"] = ["*"]
    use = {
        "verbs": ["use"],
        "apiGroups": ["policy"],
        "resources": ["podsecuritypolicies"],
        "resourceNames": [STRONGER],
    }
    with ExitStack() as made:
        _made(kube.admin, made, "/apis/policy/v1beta1/podsecuritypolicies", loose)
        role = {"metadata": {"name": STRONGER}, "rules": [use]}
        _made(kube.admin, made, f"{RBAC}/clusterroles", role)
        body = {
            "metadata": {"name": STRONGER},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": STRONGER,
            },
            "subjects": [{"kind": "ServiceAccount", "name": "gpuyard", "namespace": SYSTEM}],
        }
        _made(kube.admin, made, f"{RBAC}/namespaces/gpuyard-r-02/rolebindings", body)

        def let_in() -> bool:
            return outcome(kube, "forbidden_pods")[0] == FAIL

        until("in force", let_in)
        found = outcome(kube, "forbidden_pods")
    assert found == (FAIL, "let in: privileged (in gpuyard-r-02)")
    until("closed again", lambda: outcome(kube, "forbidden_pods")[0] == PASS)


def test_every_forbidden_pod_is_tried_and_nothing_is_left(kube: Kube) -> None:
    before = kube.admin.get("/api/v1/pods")["items"]
    facts = look(kube)
    assert isinstance(facts.pods, PodFacts)
    tried = [(trial.kind, trial.namespace) for trial in facts.pods.trials]
    kinds = ["privileged", "host path", "host network", "host processes", "host port", "SYS_ADMIN"]
    assert tried[:6] == [(kind, SPACE) for kind in kinds]
    assert tried[6:] == [(trials.FIRST_KIND, name) for name in POOL_NAMES[1:]]
    assert kube.admin.get("/api/v1/pods")["items"] == before


def test_a_namespace_whose_policy_is_gone_is_named(kube: Kube) -> None:
    path = "/apis/networking.k8s.io/v1/namespaces/gpuyard-r-02/networkpolicies"
    deny = kube.admin.get(f"{path}/default-deny")
    kube.admin.delete(f"{path}/default-deny")
    try:
        found = outcome(kube, "network_policy")
    finally:
        kube.admin.post(path, {"metadata": {"name": "default-deny"}, "spec": deny["spec"]})
    assert found == (FAIL, "gpuyard-r-02")


# --- nodes and tokens ---------------------------------------------------------------------------


def test_a_node_with_only_one_of_label_and_taint_is_named(kube: Kube) -> None:
    merge = "application/merge-patch+json"
    one, other = (
        f"/api/v1/nodes/{name}" for name in ("dc-owned-rtx-4090-01", "dc-owned-h100-sxm-01")
    )
    taints = kube.admin.get(one)["spec"]["taints"]
    kube.admin.patch(one, {"spec": {"taints": []}}, merge)
    kube.admin.patch(other, {"metadata": {"labels": {"gpuyard.io/pool": None}}}, merge)
    try:
        found = outcome(kube, "nodes_set_aside")
    finally:
        kube.admin.patch(one, {"spec": {"taints": taints}}, merge)
        kube.admin.patch(other, {"metadata": {"labels": {"gpuyard.io/pool": "rental"}}}, merge)
    assert found[0] == WARN
    assert "without the taint: dc-owned-rtx-4090-01" in found[1]
    assert "without the label: dc-owned-h100-sxm-01" in found[1]


def test_a_short_token_is_told_by_the_life_it_was_granted(kube: Kube) -> None:
    found = outcome(kube, "token_life", request_token(kube.admin, 3600))
    assert found[0] == WARN
    assert found[1].startswith("granted for 1 hours, until ")


def test_a_clock_that_is_wrong_is_measured(kube: Kube) -> None:
    """Ours is five minutes and more behind: the same as theirs being ahead."""
    client = kube.make_client()
    given = known(kube.cluster.token)
    late = replace(given, asked_at=given.asked_at - timedelta(seconds=400))
    facts = probes.look(KubernetesQuestions(client), late)
    assert isinstance(facts.skew, float)
    assert abs(facts.skew - 400) < 3
    assert results(facts)["clock_skew"].outcome == FAIL


def test_a_rejected_token_answers_nothing(kube: Kube) -> None:
    found = results(look(kube, "a.b.c"))
    assert (found["token_account"].outcome, found["token_account"].measured) == (
        FAIL,
        "the server rejects the token",
    )
    assert {found[rule].outcome for rule in ("pool", "rights_too_many", "network_policy")} == {
        UNKNOWN
    }


def test_the_rights_that_are_needed_are_those_of_the_bundle(kube: Kube) -> None:
    """Both ways: what the bundle gives is needed, and what is needed it gives."""
    given = {
        (where, verb, resource, group, name)
        for where, role in (
            ("cluster", "clusterroles/gpuyard-inventory"),
            (POOL, "clusterroles/gpuyard-rental"),
            (SYSTEM, f"namespaces/{SYSTEM}/roles/gpuyard-token"),
            (SYSTEM, f"namespaces/{SYSTEM}/roles/gpuyard-reaper-heartbeat"),
        )
        for rule in kube.admin.get(f"{RBAC}/{role}")["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
        for name in rule.get("resourceNames") or [""]
    }
    wanted = {
        (each.where, each.right.verb, each.right.resource, each.right.group, each.right.name)
        for each in needed()
    }
    assert given == wanted


def test_a_kind_of_right_that_nobody_may_ask_about_is_an_error_of_ours(kube: Kube) -> None:
    with pytest.raises(ApiError):
        kube.tenant.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {}})
