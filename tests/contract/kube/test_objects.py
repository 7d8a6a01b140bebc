"""Everything else that the minimal role may touch: secrets, services, claims, leases, policies."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from devstack.kube.api import ApiError
from tests.contract.kube.conftest import SPACE, Kube, pod, ready, until

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SPACE}/leases"
CLAIMS = f"/api/v1/namespaces/{SPACE}/persistentvolumeclaims"
SERVICES = f"/api/v1/namespaces/{SPACE}/services"


def absent(kube: Kube, path: str) -> bool:
    try:
        kube.admin.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return True
    return False


def test_the_version_is_one_that_the_product_reads(kube: Kube) -> None:
    assert kube.api.server_version() == kube.cluster.version
    assert kube.api.server_version().startswith("v1.")


def test_nodes_of_the_pool_with_labels_taints_and_devices(kube: Kube) -> None:
    nodes = {node["metadata"]["name"]: node for node in kube.api.list_nodes()}
    assert len(nodes) == 6, "the machine that the owner keeps is not among them"
    node = nodes["dc-owned-h100-sxm-01"]
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"
    (taint,) = node["spec"]["taints"]
    assert taint == {"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}
    (state,) = [c for c in node["status"]["conditions"] if c["type"] == "Ready"]
    assert state["status"] == "True"


def test_a_secret_is_made_once_and_deleted_until_it_is_gone(kube: Kube, name: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "data": {"KEY": base64.b64encode(b"value").decode()},
    }
    path = f"/api/v1/namespaces/{SPACE}/secrets/{name}"
    kube.api.create_secret(SPACE, body)
    kube.api.create_secret(SPACE, {**body, "data": {}})
    assert base64.b64decode(kube.admin.get(path)["data"]["KEY"]) == b"value"
    kube.api.delete_secret(SPACE, name)
    assert absent(kube, path)
    kube.api.delete_secret(SPACE, name)


def test_a_service_is_created_listed_and_deleted(kube: Kube, name: str) -> None:
    spec = {"selector": {"a": "b"}, "ports": [{"name": "ssh", "port": 22}]}
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    made = kube.tenant.post(SERVICES, {**head, "spec": spec})
    assert made["spec"]["type"] == "ClusterIP"
    assert made["spec"]["clusterIP"].startswith("10.96.")
    assert made["spec"]["ports"] == [
        {"name": "ssh", "port": 22, "protocol": "TCP", "targetPort": 22}
    ]
    listed = kube.tenant.get(SERVICES)["items"]
    assert name in {each["metadata"]["name"] for each in listed}
    kube.tenant.delete(f"{SERVICES}/{name}")
    assert absent(kube, f"{SERVICES}/{name}")


def test_a_lease_is_renewed_only_from_its_present_version(kube: Kube, name: str) -> None:
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 60}
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
    made = kube.tenant.post(LEASES, {**head, "spec": spec})
    spec = {**spec, "renewTime": "2026-01-02T03:04:05.678901Z"}
    renewed = kube.tenant.put(f"{LEASES}/{name}", {**made, "spec": spec})
    assert renewed["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z"
    assert int(renewed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    with pytest.raises(ApiError) as error:
        kube.tenant.put(f"{LEASES}/{name}", {**made, "spec": spec})
    assert (error.value.status, error.value.reason) == (409, "Conflict")
    with pytest.raises(ApiError) as error:
        kube.tenant.post(LEASES, {**head, "spec": spec})
    assert (error.value.status, error.value.reason) == (409, "AlreadyExists")
    with pytest.raises(ApiError) as error:
        kube.tenant.patch(f"{LEASES}/{name}", {"spec": spec}, MERGE)
    assert error.value.status == 403, "the role updates leases, it does not patch them"
    kube.tenant.delete(f"{LEASES}/{name}")
    assert absent(kube, f"{LEASES}/{name}")


def test_a_write_that_changes_nothing_makes_no_version(kube: Kube, name: str) -> None:
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
    made = kube.tenant.post(LEASES, {**head, "spec": {"holderIdentity": "a"}})
    again = kube.tenant.put(f"{LEASES}/{name}", made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    kube.tenant.delete(f"{LEASES}/{name}")


def claim(name: str, **spec: Any) -> Json:
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "by-hand",
        **spec,
    }
    head = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
    return {**head, "spec": wanted}


def volume(name: str, claimed: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "by-hand",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": SPACE, "name": claimed},
        },
    }


def test_a_claim_waits_is_bound_and_holds_until_its_pod_is_gone(kube: Kube, name: str) -> None:
    made = kube.tenant.post(CLAIMS, claim(name))
    assert made["status"] == {"phase": "Pending"}
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    body = pod(name)
    body["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]

    def phase() -> str:
        return str(kube.tenant.get(f"{CLAIMS}/{name}")["status"]["phase"])

    kube.admin.post("/api/v1/persistentvolumes", volume(name, name))
    try:
        until("bound", lambda: phase() == "Bound")
        bound = kube.tenant.get(f"{CLAIMS}/{name}")
        assert bound["spec"]["volumeName"] == name
        assert bound["status"]["capacity"] == {"storage": "2Gi"}
        kube.api.create_pod(SPACE, body)
        ready(kube, name)
        going = kube.tenant.delete(f"{CLAIMS}/{name}")
        assert going["metadata"]["name"] == name
        held = kube.tenant.get(f"{CLAIMS}/{name}")
        assert held["metadata"]["deletionTimestamp"], "it is in use"
        kube.api.delete_pod(SPACE, name, uid=None, grace=0)
        until("gone with its pod", lambda: absent(kube, f"{CLAIMS}/{name}"))
        path = f"/api/v1/persistentvolumes/{name}"
        until("the data stays", lambda: kube.admin.get(path)["status"]["phase"] == "Released")
    finally:
        kube.admin.delete(f"/api/v1/persistentvolumes/{name}")


def test_a_pod_whose_claim_is_not_bound_waits(kube: Kube, name: str) -> None:
    kube.tenant.post(CLAIMS, claim(name))
    body = pod(name)
    body["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]
    kube.api.create_pod(SPACE, body)

    def sentence() -> str:
        found = kube.api.get_pod(SPACE, name)["status"].get("conditions", [])
        return str(found[0].get("message", "")) if found else ""

    until("it waits", lambda: "unbound immediate PersistentVolumeClaims" in sentence())
    kube.api.delete_pod(SPACE, name, uid=None, grace=0)
    kube.tenant.delete(f"{CLAIMS}/{name}")
    until("the claim is gone", lambda: absent(kube, f"{CLAIMS}/{name}"))


def test_a_claim_can_be_labelled_but_not_without_access_modes(kube: Kube, name: str) -> None:
    kube.tenant.post(CLAIMS, claim(name))
    changed = kube.tenant.patch(
        f"{CLAIMS}/{name}", {"metadata": {"labels": {"tier": "gold"}}}, MERGE
    )
    assert changed["metadata"]["labels"] == {"tier": "gold"}
    assert changed["status"] == {"phase": "Pending"}
    kube.tenant.delete(f"{CLAIMS}/{name}")
    with pytest.raises(ApiError) as error:
        kube.tenant.post(CLAIMS, claim(f"{name}-2", accessModes=[]))
    assert error.value.status == 422


def test_the_policies_of_the_bundle_can_be_read(kube: Kube) -> None:
    path = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies"
    found = {item["metadata"]["name"]: item["spec"] for item in kube.tenant.get(path)["items"]}
    assert set(found) == {"default-deny", "egress", "egress-web", "relay"}
    assert found["default-deny"]["policyTypes"] == ["Ingress", "Egress"]
    ((source,),) = [each["from"] for each in found["relay"]["ingress"]]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "gpuyard-relay"}
    assert source["namespaceSelector"]["matchLabels"], "of one namespace, not of any"
    assert kube.tenant.get(f"/api/v1/namespaces/{SPACE}/limitranges")["items"] == []
    assert kube.tenant.get("/apis/node.k8s.io/v1/runtimeclasses")["items"] == []
    quota = kube.tenant.get(f"/api/v1/namespaces/{SPACE}/resourcequotas/gpuyard")
    assert quota["status"]["hard"]["pods"] == "128"


def test_the_story_of_a_pod_in_events(kube: Kube, name: str) -> None:
    made = kube.api.create_pod(SPACE, pod(name))
    ready(kube, name)
    uid = made["metadata"]["uid"]

    def reasons() -> set[str]:
        found = kube.tenant.get(
            f"/api/v1/namespaces/{SPACE}/events", fieldSelector=f"involvedObject.uid={uid}"
        )
        return {event["reason"] for event in found["items"]}

    until("told", lambda: {"Scheduled", "Pulled", "Created", "Started"} <= reasons())


def test_the_log_of_a_container(kube: Kube, name: str) -> None:
    if kube.kind == "real":
        pytest.skip("no kubelet: the API server would ask a node at an address that nobody has")
    kube.api.create_pod(SPACE, pod(name))
    ready(kube, name)
    kube.faults.print(SPACE, name, "main", ["one", "two", "three"])

    def text(**query: str) -> str:
        return kube.text(f"/api/v1/namespaces/{SPACE}/pods/{name}/log", **query)

    assert text() == "one\ntwo\nthree\n"
    assert text(tailLines="1") == "three\n"
    assert text(limitBytes="5") == "one\nt"
    assert text(timestamps="true", tailLines="1").endswith("Z three\n")


def test_a_log_that_cannot_be_had(kube: Kube, name: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/pods/{name}/log"
    with pytest.raises(ApiError) as error:
        kube.tenant.get(path)
    assert error.value.status == 404
    kube.api.create_pod(SPACE, pod(name, cards=100))
    with pytest.raises(ApiError) as error:
        kube.tenant.get(path, container="other")
    assert error.value.status == 400
    assert "container other is not valid for pod" in error.value.message
