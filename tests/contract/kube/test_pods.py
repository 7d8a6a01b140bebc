"""Pods through the product's own calls: create, read, list, delete, and what is refused."""

from __future__ import annotations

import uuid

import pytest

from provisioner.kube.errors import Rejected
from tests.contract.kube.conftest import (
    OURS,
    SPACE,
    Kube,
    condition,
    find,
    gone,
    pod,
    ready,
    until,
    version,
)
from tests.live.pods import proof


def refused(error: pytest.ExceptionInfo[Rejected]) -> str:
    return str(error.value.code)


def test_a_pod_is_created_with_an_identity_and_read_back(kube: Kube, name: str) -> None:
    made = kube.api.create_pod(SPACE, pod(name))
    read = kube.api.get_pod(SPACE, name)
    assert made["metadata"]["uid"] == read["metadata"]["uid"]
    assert made["metadata"]["name"] == name
    assert made["metadata"]["namespace"] == SPACE
    assert made["status"] == {"phase": "Pending", "qosClass": "Guaranteed"}
    assert "nodeName" not in made["spec"]
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert made["spec"]["terminationGracePeriodSeconds"] == 10
    assert {each["key"]: each.get("tolerationSeconds") for each in made["spec"]["tolerations"]} == {
        "gpuyard.io/pool": None,
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }


def test_a_second_pod_of_the_same_name_exists_already(kube: Kube, name: str) -> None:
    first = kube.api.create_pod(SPACE, pod(name))
    with pytest.raises(Rejected) as error:
        kube.api.create_pod(SPACE, pod(name))
    assert refused(error) == "exists"
    assert kube.api.get_pod(SPACE, name)["metadata"]["uid"] == first["metadata"]["uid"]


def test_what_is_not_there_is_not_found(kube: Kube, name: str) -> None:
    for call in (
        lambda: kube.api.get_pod(SPACE, name),
        lambda: kube.api.delete_pod(SPACE, name, uid=None, grace=0),
    ):
        with pytest.raises(Rejected) as error:
            call()
        assert refused(error) == "not_found"


@pytest.mark.parametrize("case", ["name", "request over limit", "half a card", "twice"])
def test_a_pod_that_makes_no_sense_is_invalid(kube: Kube, name: str, case: str) -> None:
    body = pod(name)
    main = body["spec"]["containers"][0]
    if case == "name":
        body["metadata"]["name"] = "Not_A_Name"
    elif case == "request over limit":
        main["resources"] = {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}
    elif case == "half a card":
        halves = {"nvidia.com/gpu": "500m"}
        main["resources"] = {"limits": halves, "requests": halves}
    else:
        body["spec"]["containers"].append(dict(main))
    with pytest.raises(Rejected) as error:
        kube.api.create_pod(SPACE, body)
    assert refused(error) == "invalid"
    assert "is invalid" in str(error.value)
    assert find(kube, name) is None


def test_a_running_pod_shows_its_cards_and_its_node(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, cards=2))
    found = ready(kube, name)
    assert found["status"]["phase"] == "Running"
    assert len(proof(found)["devices"]) == 2
    assert found["status"]["hostIP"].startswith("10.")
    assert found["status"]["containerStatuses"][0]["containerID"].startswith("containerd://")
    scheduled = condition(found, "PodScheduled")
    assert scheduled["status"] == "True"
    nodes = {node["metadata"]["name"] for node in kube.api.list_nodes()}
    assert found["spec"]["nodeName"] in nodes


def test_deletion_with_grace_is_announced_and_then_final(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name))
    before = ready(kube, name)
    with kube.sim.fault("slow_stop", {"pod": name}):
        going = kube.api.delete_pod(SPACE, name, uid=before["metadata"]["uid"], grace=30)
        assert going["metadata"]["deletionGracePeriodSeconds"] == 30
        assert going["metadata"]["deletionTimestamp"]
        assert condition(going, "Ready")["status"] == "True"
        later = kube.api.delete_pod(SPACE, name, uid=None, grace=60)
        assert later["metadata"]["deletionGracePeriodSeconds"] == 30, "grace only gets shorter"
        sooner = kube.api.delete_pod(SPACE, name, uid=None, grace=1)
        assert sooner["metadata"]["deletionGracePeriodSeconds"] == 1
        assert sooner["metadata"]["uid"] == before["metadata"]["uid"]
    until("it is gone", lambda: find(kube, name) is None)


def test_another_pod_of_the_name_is_not_deleted(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name))
    with pytest.raises(Rejected) as error:
        kube.api.delete_pod(SPACE, name, uid=str(uuid.uuid4()), grace=0)
    assert refused(error) == "conflict"
    assert find(kube, name) is not None


def test_a_pod_on_no_node_goes_at_once_whatever_grace(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, cards=100))
    kube.api.delete_pod(SPACE, name, uid=None, grace=30)
    assert find(kube, name) is None


def test_a_name_can_be_used_again_with_another_identity(kube: Kube, name: str) -> None:
    first = kube.api.create_pod(SPACE, pod(name))
    gone(kube, name)
    second = kube.api.create_pod(SPACE, pod(name))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert version(second) > version(first)


def test_the_list_is_ours_only_and_its_version_is_of_the_whole(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name))
    foreign = pod(f"{name}-foreign")
    foreign["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "somebody"}
    other = kube.api.create_pod(SPACE, foreign)
    listed, at = kube.api.list_pods(SPACE)
    assert [each["metadata"]["name"] for each in listed] == [name]
    assert int(at) >= version(other)


def test_pages_show_one_moment(kube: Kube, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for each in names:
        kube.api.create_pod(SPACE, pod(each, cards=100))
    path = f"/api/v1/namespaces/{SPACE}/pods"
    query = {"labelSelector": "app.kubernetes.io/managed-by=gpuyard"}
    pages = kube.client.pages(path, query=query, limit=2, seconds=10)
    first = next(pages)
    assert [each["metadata"]["name"] for each in first["items"]] == names[:2]
    gone(kube, names[4])
    rest = list(pages)
    assert {page["metadata"]["resourceVersion"] for page in rest} == {
        first["metadata"]["resourceVersion"]
    }
    assert [each["metadata"]["name"] for page in rest for each in page["items"]] == names[2:]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"labelSelector": "tier=gold"}, ["a"]),
        ({"labelSelector": "tier!=gold,kind"}, ["b"]),
        ({"labelSelector": "tier in (gold, silver)"}, ["a", "b"]),
        ({"labelSelector": "!tier"}, ["c"]),
        ({"labelSelector": "kind notin (x)"}, ["a", "c"]),
        ({"fieldSelector": "metadata.name={name}-b"}, ["b"]),
        ({"fieldSelector": "status.phase=Running"}, []),
        ({"fieldSelector": "spec.nodeName!="}, []),
        ({"fieldSelector": "spec.nodeName=", "labelSelector": "tier"}, ["a", "b"]),
    ],
)
def test_selectors(kube: Kube, name: str, query: dict[str, str], found: list[str]) -> None:
    for letter, labels in (
        ("a", {"tier": "gold"}),
        ("b", {"tier": "silver", "kind": "x"}),
        ("c", {}),
    ):
        body = pod(f"{name}-{letter}", cards=100)
        body["metadata"]["labels"] = labels
        kube.api.create_pod(SPACE, body)
    asked = {key: value.format(name=name) for key, value in query.items()}
    listed = kube.tenant.get(f"/api/v1/namespaces/{SPACE}/pods", **asked)["items"]
    assert [each["metadata"]["name"] for each in listed] == [f"{name}-{each}" for each in found]


@pytest.mark.parametrize(
    "query", [{"fieldSelector": "spec.priority=1"}, {"labelSelector": "a in b"}, {"limit": "x"}]
)
def test_a_selector_that_makes_no_sense_is_refused(kube: Kube, query: dict[str, str]) -> None:
    with pytest.raises(Rejected) as error:
        kube.client.request("GET", f"/api/v1/namespaces/{SPACE}/pods", query=query)
    assert refused(error) == "invalid"


def test_a_dry_run_leaves_nothing(kube: Kube, name: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/pods"
    made = kube.client.request("POST", path, query={"dryRun": "All"}, body=pod(name))
    assert made["metadata"]["labels"] == OURS
    assert find(kube, name) is None
