"""What the platform's small token may do, what it may not, and how a refusal is told apart."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from devstack.kube.api import ApiError
from provisioner.kube.errors import Rejected
from tests.contract.kube.conftest import SPACE, Kube, find, gone, pod, ready, until

Json = dict[str, Any]
QUOTA = "/api/v1/namespaces/gpuyard-r-03/resourcequotas/gpuyard"


def test_the_pool_is_what_may_be_created_in(kube: Kube) -> None:
    spaces = ["gpuyard-r-01", "gpuyard-r-02", "gpuyard-r-03", "gpuyard-r-04", "default"]
    answers = [kube.api.may_create_pods(space) for space in spaces]
    assert answers == [True, True, True, False, False]


REFUSED = [
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets"),
    ("GET", f"/api/v1/namespaces/{SPACE}/secrets/any"),
    ("GET", "/api/v1/namespaces"),
    ("GET", f"/api/v1/namespaces/{SPACE}"),
    ("GET", "/api/v1/pods"),
    ("GET", "/api/v1/namespaces/default/pods"),
    ("GET", "/api/v1/namespaces/gpuyard-r-04/pods"),
    ("GET", "/api/v1/nodes/dc-owned-rtx-4090-01/proxy/"),
    ("GET", "/apis/apps/v1/deployments"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods/any/exec?command=id"),
    ("POST", f"/api/v1/namespaces/{SPACE}/pods/any/eviction"),
    ("PUT", f"/api/v1/namespaces/{SPACE}/pods/any/status"),
    ("DELETE", "/api/v1/nodes/dc-owned-rtx-4090-01"),
    ("DELETE", f"/api/v1/namespaces/{SPACE}/pods"),
    ("PATCH", f"/api/v1/namespaces/{SPACE}/pods/any"),
    ("DELETE", f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies/egress"),
    ("DELETE", f"/api/v1/namespaces/{SPACE}/resourcequotas/gpuyard"),
    ("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/rolebindings"),
    ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_a_right_that_is_missing_is_forbidden(kube: Kube, method: str, path: str) -> None:
    """With the word by which the product tells it from a pod that is not let in."""
    body: Json | None = {"metadata": {}} if method in {"POST", "PUT", "PATCH"} else None
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(ApiError) as error:
        kube.tenant.call(method, path, body, kind)
    assert (error.value.status, error.value.reason) == (403, "Forbidden")
    user = "system:serviceaccount:gpuyard-system:gpuyard"
    assert f'User "{user}" cannot ' in error.value.message


def test_the_product_reads_a_missing_right_as_the_clusters_fault(kube: Kube) -> None:
    with pytest.raises(Rejected) as error:
        kube.api.list_pods("default")
    assert error.value.code == "forbidden"


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "changed"])
def test_a_wrong_token_is_unauthorized(kube: Kube, token: str) -> None:
    if token == "changed":
        head, _, signature = kube.cluster.token.rpartition(".")
        token = f"{head}.{signature[::-1]}"
    with pytest.raises(Rejected) as error:
        kube.connect(token=token).list_nodes()
    assert error.value.code in ({"unauthorized", "forbidden"} if not token else {"unauthorized"})


def test_a_token_renews_itself_for_thirty_days(kube: Kube) -> None:
    token, ends = kube.api.renew_token(seconds=30 * 24 * 3600)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["exp"] - claims["iat"] == 30 * 24 * 3600
    assert claims["sub"] == "system:serviceaccount:gpuyard-system:gpuyard"
    assert ends.endswith("Z")
    assert kube.connect(token=token).list_nodes()
    with pytest.raises(Rejected) as error:
        kube.api.renew_token(seconds=60)
    assert error.value.code == "invalid", "less than ten minutes"


def forbidden_pods() -> dict[str, Json]:
    def changed(**parts: Any) -> Json:
        body = pod("forbidden")
        body["spec"] |= parts
        return body

    def context(**parts: Any) -> Json:
        body = pod("forbidden")
        body["spec"]["containers"][0]["securityContext"] = parts
        return body

    port = pod("forbidden")
    port["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
    return {
        "privileged": context(privileged=True),
        "capability": context(capabilities={"add": ["SYS_ADMIN"]}),
        "host port": port,
        "unconfined": changed(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        "host path": changed(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
        "nfs": changed(volumes=[{"name": "x", "nfs": {"server": "h", "path": "/"}}]),
        "host pid": changed(hostPID=True),
        "host network": changed(hostNetwork=True),
        "host ipc": changed(hostIPC=True),
    }


@pytest.mark.parametrize("case", list(forbidden_pods()))
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_pod_that_could_leave_its_container_is_not_admitted(
    kube: Kube, case: str, dry_run: bool
) -> None:
    query = {"dryRun": "All"} if dry_run else {}
    path = f"/api/v1/namespaces/{SPACE}/pods"
    with pytest.raises(Rejected) as error:
        kube.client.request("POST", path, query=query, body=forbidden_pods()[case])
    assert error.value.code == "not_admitted"
    assert "PodSecurityPolicy: unable to admit pod" in str(error.value)
    assert find(kube, "forbidden") is None


def test_a_pod_of_an_account_that_is_not_there(kube: Kube, name: str) -> None:
    body = pod(name)
    body["spec"]["serviceAccountName"] = "nobody"
    with pytest.raises(Rejected) as error:
        kube.api.create_pod(SPACE, body)
    assert error.value.code == "not_admitted"


def test_the_quota_counts_pods_and_refuses_one_more(kube: Kube, name: str) -> None:
    space, merge = "gpuyard-r-03", "application/merge-patch+json"
    hard = kube.admin.get(QUOTA)["spec"]["hard"]

    def used() -> str:
        return str(kube.tenant.get(QUOTA)["status"]["used"]["pods"])

    kube.admin.patch(QUOTA, {"spec": {"hard": {"pods": "1"}}}, merge)
    try:
        until("in force", lambda: kube.tenant.get(QUOTA)["status"]["hard"]["pods"] == "1")
        kube.api.create_pod(space, pod(f"{name}-1"))
        with pytest.raises(Rejected) as error:
            kube.api.create_pod(space, pod(f"{name}-2"))
        assert error.value.code == "quota"
        assert ("exceeded quota: gpuyard, requested: pods=1, used: pods=1, limited: pods=1") in str(
            error.value
        )
        ready(kube, f"{name}-1", space)
        until("counted", lambda: used() == "1")
        gone(kube, f"{name}-1", space)
        until("free again", lambda: used() == "0")
        kube.api.create_pod(space, pod(f"{name}-2"))
    finally:
        kube.admin.patch(QUOTA, {"spec": {"hard": hard}}, merge)


def test_no_load_balancers(kube: Kube, name: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 22}], "selector": {"a": "b"}},
    }
    with pytest.raises(ApiError) as error:
        kube.tenant.post(f"/api/v1/namespaces/{SPACE}/services", body)
    assert error.value.status == 403
    assert "exceeded quota" in error.value.message
