"""What is kept of large answers: what is read of them, and nothing by the thousand."""

from __future__ import annotations

import copy
from typing import Any

from provisioner.inventory import parse
from provisioner.kube import slim
from provisioner.kube.pods import facts
from provisioner.preflight.machines import is_labelled, machines, tainted_name

NODE: dict[str, Any] = {
    "metadata": {
        "name": "n1",
        "uid": "u1",
        "labels": {
            "gpuyard.io/pool": "rental",
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.memory": "81559",
        },
        "annotations": {"a": "x" * 1000},
        "managedFields": [{"f:status": {}}],
    },
    "spec": {"taints": [{"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}]},
    "status": {
        "capacity": {"nvidia.com/gpu": "8", "cpu": "64", "example.com/odd": 3},
        "allocatable": {
            "nvidia.com/gpu": "8",
            "cpu": "64",
            "memory": "512Gi",
            "ephemeral-storage": "1Ti",
        },
        "conditions": [{"type": "Ready", "status": "True", "message": "x"}],
        "images": [{"names": ["x" * 1000]}],
    },
}


def test_inventory_and_preflight_read_the_same_of_a_slim_node() -> None:
    whole = copy.deepcopy(NODE)
    assert parse.nodes([slim.node(whole)]) == parse.nodes([whole])
    assert parse.nodes([whole])[0].shares, "the node sells nothing, so nothing is compared"
    assert machines([slim.node(whole)], only_taint=()) == machines([whole], only_taint=())
    assert slim.weight(slim.node(whole)) < slim.weight(whole) / 1.5
    assert whole == NODE


def test_a_node_of_thousands_of_everything_is_small() -> None:
    many = {f"k{number}": "x" for number in range(5_000)}
    labels = {"long": "x" * 64, "y" * 400: "z", **many, "gpuyard.io/pool": "rental"}
    node = {
        "metadata": {"name": "n" * 9_999, "labels": labels},
        "spec": {"taints": [many] * 5_000},
        "status": {"capacity": many, "allocatable": {"a": {"b": 1}}, "conditions": many},
    }
    kept = slim.node(node)
    assert len(kept["metadata"]["labels"]) == 257
    assert kept["metadata"]["labels"]["gpuyard.io/pool"] == "rental"
    assert {"long", "y" * 400}.isdisjoint(kept["metadata"]["labels"])
    assert "name" not in kept["metadata"]
    assert len(kept["spec"]["taints"]) == 64
    assert kept["status"]["allocatable"] == {}
    assert slim.weight(kept) < 100_000


def test_of_a_node_that_is_not_ours_name_and_taints_are_kept() -> None:
    other = copy.deepcopy(NODE)
    del other["metadata"]["labels"]["gpuyard.io/pool"]
    kept = slim.node(other)
    assert kept == {"metadata": {"name": "n1", "uid": "u1"}, "spec": NODE["spec"]}
    assert tainted_name(kept) == "n1"
    assert not is_labelled(kept)


def test_what_is_read_of_a_pod_is_kept() -> None:
    pod = {
        "metadata": {
            "name": "p",
            "namespace": "s",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {"gpuyard.io/instance": "i"},
            "managedFields": [{}],
            "annotations": {"a": "b"},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "t"}],
        },
    }
    kept = slim.pod(pod)
    assert facts(kept) == facts(pod)
    assert kept["spec"] == {"nodeName": "n"}
    assert not {"managedFields", "annotations"} & set(kept["metadata"])


def test_weight_counts_what_is_inside() -> None:
    assert slim.weight("x" * 1000) > 1000
    assert slim.weight([{}] * 1000) > 100_000
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert slim.weight(deep) > 10_000_000, "no recursion"
