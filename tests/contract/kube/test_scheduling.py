"""The scheduler's part: devices, affinity by name, taints, its sentence, and silent nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.kube.conftest import SPACE, Kube, condition, find, gone, pod, ready, until

Json = dict[str, Any]
NODE = "dc-owned-rtx-4090-01"  # four cards


def unschedulable(kube: Kube, name: str) -> str:
    """The scheduler's sentence about a pod that it cannot place."""

    def look() -> str:
        found = condition(find(kube, name), "PodScheduled")
        refused = found.get("status") == "False" and found.get("reason") == "Unschedulable"
        return str(found["message"]) if refused else ""

    sentence: str = until(f"{name} is refused", look)
    return sentence


def test_required_affinity_by_the_nodes_name(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, node="dc-owned-h100-sxm-03"))
    assert ready(kube, name)["spec"]["nodeName"] == "dc-owned-h100-sxm-03"


def test_more_cards_than_any_node_has(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, cards=9))
    sentence = unschedulable(kube, name)
    assert sentence == "0/7 nodes are available: 7 Insufficient nvidia.com/gpu."
    assert find(kube, name)["status"]["phase"] == "Pending"  # type: ignore[index]


def test_a_taint_that_is_not_tolerated(kube: Kube, name: str) -> None:
    body = pod(name)
    del body["spec"]["tolerations"]
    body["spec"]["nodeSelector"] = {"gpuyard.io/pool": "rental"}
    kube.api.create_pod(SPACE, body)
    sentence = unschedulable(kube, name)
    assert "node(s) had taint {gpuyard.io/pool: rental}, that the pod didn't tolerate" in sentence


def test_a_node_that_does_not_exist(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, node="nowhere"))
    assert "node(s) didn't match" in unschedulable(kube, name)


def test_a_failure_to_schedule_is_an_event_too(kube: Kube, name: str) -> None:
    made = kube.api.create_pod(SPACE, pod(name, cards=9))
    uid = made["metadata"]["uid"]

    def reasons() -> set[str]:
        found = kube.tenant.get(
            f"/api/v1/namespaces/{SPACE}/events", fieldSelector=f"involvedObject.uid={uid}"
        )
        return {event["reason"] for event in found["items"]}

    until("the event", lambda: "FailedScheduling" in reasons())


def test_cards_are_given_once_and_again_when_they_are_free(kube: Kube, name: str) -> None:
    first, second = f"{name}-1", f"{name}-2"
    kube.api.create_pod(SPACE, pod(first, cards=3, node=NODE))
    ready(kube, first)
    kube.api.create_pod(SPACE, pod(second, cards=2, node=NODE))
    assert "Insufficient nvidia.com/gpu" in unschedulable(kube, second)
    gone(kube, first)
    assert ready(kube, second)["spec"]["nodeName"] == NODE


def test_a_lost_card_is_not_given(kube: Kube, name: str) -> None:
    def allocatable() -> str:
        nodes = {each["metadata"]["name"]: each for each in kube.api.list_nodes()}
        return str(nodes[NODE]["status"]["allocatable"]["nvidia.com/gpu"])

    assert allocatable() == "4"
    with kube.sim.fault("lost_gpu", {"node": NODE}, {"cards": 2}):
        until("two are left", lambda: allocatable() == "2")
        kube.api.create_pod(SPACE, pod(name, cards=3, node=NODE))
        unschedulable(kube, name)
    until("four again", lambda: allocatable() == "4")
    ready(kube, name)


def test_a_cordoned_node_takes_nothing_new(kube: Kube, name: str) -> None:
    path, merge = f"/api/v1/nodes/{NODE}", "application/merge-patch+json"
    kube.admin.patch(path, {"spec": {"unschedulable": True}}, merge)
    try:
        kube.api.create_pod(SPACE, pod(name, node=NODE))
        unschedulable(kube, name)
    finally:
        kube.admin.patch(path, {"spec": {"unschedulable": None}}, merge)
    ready(kube, name)


@pytest.mark.timeout(60)
def test_a_silent_node_becomes_unknown_with_its_pods_and_comes_back(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, node=NODE))
    before = ready(kube, name)

    def node() -> Json:
        return kube.admin.get(f"/api/v1/nodes/{NODE}")

    def taints() -> set[tuple[str, str]]:
        return {(each["key"], each["effect"]) for each in node()["spec"]["taints"]}

    def silenced() -> bool:
        return str(condition(node(), "Ready")["status"]) == "Unknown"

    unreachable = "node.kubernetes.io/unreachable"
    with kube.sim.fault("silent_node", {"node": NODE}):
        until("Unknown", silenced, 30)
        assert condition(node(), "Ready")["reason"] == "NodeStatusUnknown"
        until(
            "tainted", lambda: {(unreachable, "NoSchedule"), (unreachable, "NoExecute")} <= taints()
        )
        until("unready", lambda: condition(find(kube, name), "Ready").get("status") == "False")
    until("back", lambda: condition(node(), "Ready")["status"] == "True")
    until("no taint", lambda: all(key != unreachable for key, _ in taints()))
    after = ready(kube, name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    main = [each["status"]["containerStatuses"][0]["containerID"] for each in (before, after)]
    assert main[0] == main[1]
