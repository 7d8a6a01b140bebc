"""Nodes as API servers list them: what is sold, what is not, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.quantity import quantity
from provisioner.inventory import parse
from provisioner.inventory.accelerators import accelerators, by_slug, families
from provisioner.inventory.parse import NodeFacts

POOL_TAINT = {"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}
NVIDIA = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.sharing-strategy": "none",
    "nvidia.com/cuda.driver.major": "550",
    "nvidia.com/cuda.driver.minor": "54",
    "nvidia.com/cuda.driver.rev": "15",
    "nvidia.com/cuda.runtime.major": "12",
    "nvidia.com/cuda.runtime.minor": "4",
}


def node_json(
    labels: dict[str, str] | None = None,
    devices: dict[str, int] | None = None,
    *,
    name: str = "node-1",
    healthy: dict[str, int] | None = None,
    ready: bool = True,
    pool: bool = True,
    taints: list[dict[str, str]] | None = None,
    cpu: str = "191",
    memory: str = "2044Gi",
    disk: str = "25200Gi",
    **spec: Any,
) -> dict[str, Any]:
    counts = {"nvidia.com/gpu": 8} if devices is None else devices
    shape = {"cpu": cpu, "memory": memory, "ephemeral-storage": disk}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {**(NVIDIA if labels is None else labels), "gpuyard.io/pool": "rental"}
            if pool
            else (labels or NVIDIA),
        },
        "spec": {"taints": [POOL_TAINT] if taints is None else taints, **spec},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "capacity": {**shape, **{k: str(v) for k, v in counts.items()}},
            "allocatable": {**shape, **{k: str(v) for k, v in (healthy or counts).items()}},
        },
    }


def only(item: dict[str, Any]) -> NodeFacts:
    (found,) = parse.nodes([item])
    return found


def reason_of(item: dict[str, Any]) -> str:
    unsold = only(item).unsold
    return unsold[0] if unsold else ""


def test_a_whole_machine_is_read() -> None:
    node = only(node_json())
    assert node.unsold is None
    (share,) = node.shares
    assert share.unsold is None
    assert (share.accelerator, share.capacity, share.healthy) == ("nvidia-h100-80gb-sxm", 8, 8)
    assert (share.driver, share.toolkit_max) == ("550.54.15", "12.4")
    # What comes with a card is rounded down, so eight of them fit on the machine for certain.
    assert share.vcpus_milli == 23500
    assert share.ram_mib == 255 * 1024
    assert share.disk_mib == 2520 * 1024
    assert share.vcpus_milli * 8 <= 191_000
    assert share.ram_mib * 8 <= 2044 * 1024


def test_a_broken_card_lowers_what_is_offered_but_not_the_shape() -> None:
    whole, less = only(node_json()), only(node_json(healthy={"nvidia.com/gpu": 7}))
    assert less.shares[0].healthy == 7
    assert replace(less.shares[0], healthy=8) == whole.shares[0]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, "model_unknown"),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"}, "time_sliced"),
        ({**NVIDIA, "nvidia.com/gpu.replicas": "6"}, "time_sliced"),
        ({**NVIDIA, "nvidia.com/gpu.sharing-strategy": "time-slicing"}, "time_sliced"),
        ({**NVIDIA, "nvidia.com/gpu.sharing-strategy": "mps"}, "time_sliced"),
        ({**NVIDIA, "nvidia.com/vgpu.present": "true"}, "virtual_gpu"),
        ({"nvidia.com/gpu.product": "NVIDIA-H9000"}, "model_unknown"),
        ({**NVIDIA, "nvidia.com/gpu.memory": "40960"}, "model_unknown"),
    ],
)
def test_what_is_not_a_known_whole_card_is_not_sold(labels, reason) -> None:
    (share,) = only(node_json(labels)).shares
    assert share.unsold is not None
    assert share.unsold[0] == reason
    assert share.unsold[1].endswith(".")


def test_only_nodes_with_label_and_taint_are_sold() -> None:
    assert reason_of(node_json(pool=False)) == "not_set_aside"
    assert reason_of(node_json(taints=[])) == "not_tainted"
    other = [{**POOL_TAINT, "effect": "PreferNoSchedule"}]
    assert reason_of(node_json(taints=other)) == "not_tainted"


def test_other_taints_and_cordons_keep_us_off() -> None:
    cordoned = only(node_json(unschedulable=True))
    tainted = only(node_json(taints=[POOL_TAINT, {"key": "x", "value": "", "effect": "NoExecute"}]))
    assert not cordoned.schedulable
    assert not tainted.schedulable
    soft = [POOL_TAINT, {"key": "x", "value": "", "effect": "PreferNoSchedule"}]
    assert only(node_json(taints=soft)).schedulable


def test_a_mixed_node_is_split_and_the_machine_shared_out() -> None:
    labels = {**NVIDIA, "node.kubernetes.io/npu.chip.name": "910B3"}
    node = only(node_json(labels, {"nvidia.com/gpu": 4, "huawei.com/Ascend910": 4}))
    assert {s.accelerator for s in node.shares} == {"nvidia-h100-80gb-sxm", "ascend-910b"}
    assert {s.vcpus_milli for s in node.shares} == {23500}


def test_one_card_under_two_names_is_not_sold() -> None:
    labels = {"node.kubernetes.io/npu.chip.name": "910B3"}
    devices = {"huawei.com/Ascend910": 8, "huawei.com/Ascend910B3": 8}
    (share,) = only(node_json(labels, devices)).shares
    assert share.unsold is not None
    assert share.unsold[0] == "advertised_twice"


def test_a_model_under_two_resources_of_one_cluster_is_not_sold(monkeypatch) -> None:
    """Two vendors' plugins for one card would be two tables; no pair of today's is of that kind."""
    nvidia = families()["nvidia.com/gpu"]
    doubled = {**families(), "example.com/gpu": replace(nvidia, resource="example.com/gpu")}
    monkeypatch.setattr(parse, "families", lambda: doubled)
    found = parse.nodes([node_json(name="a"), node_json(name="b", devices={"example.com/gpu": 8})])
    assert [(s.unsold or ("",))[0] for node in found for s in node.shares] == [
        "advertised_twice"
    ] * 2


def test_a_node_too_small_for_its_cards_is_not_sold() -> None:
    (share,) = only(node_json(cpu="1", memory="2Gi", disk="10Gi")).shares
    assert share.unsold is not None
    assert share.unsold[0] == "too_small"


@pytest.mark.parametrize(
    ("labels", "resource", "slug"),
    [
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
         "amd.com/gpu", "amd-mi300x"),
        ({"beta.amd.com/gpu.product-name.AMD_Instinct_MI300X_OAM": "8"},
         "amd.com/gpu", "amd-mi300x"),
        ({"node.kubernetes.io/npu.chip.name": "910B3"}, "huawei.com/Ascend910", "ascend-910b"),
        ({"gpu.intel.com/product": "Max_1550"}, "gpu.intel.com/i915", "intel-max-1550"),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, "nvidia.com/gpu", "nvidia-t4"),
        ({"nvidia.com/gpu.product": "NVIDIA-Tesla-T4"}, "nvidia.com/gpu", "nvidia-t4"),
        ({"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-5090"}, "nvidia.com/gpu",
         "nvidia-rtx-5090"),
        ({"nvidia.com/gpu.product": "NVIDIA-L4"}, "nvidia.com/gpu", "nvidia-l4"),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, "nvidia.com/gpu", "nvidia-l40s"),
        ({"nvidia.com/gpu.product": "NVIDIA-B300-SXM6-AC"}, "nvidia.com/gpu", "nvidia-b300-sxm"),
    ],
)  # fmt: skip
def test_labels_of_real_nodes_name_their_cards(labels, resource, slug) -> None:
    (share,) = only(node_json(labels, {resource: 2})).shares
    assert share.unsold is None, share.unsold
    assert share.accelerator == slug


def test_the_registry_holds_every_vendor_and_no_model_twice() -> None:
    vendors = {accelerator.vendor for accelerator in accelerators()}
    assert vendors >= {
        "nvidia", "amd", "huawei", "cambricon", "hygon", "intel", "mthreads", "metax", "iluvatar",
        "enflame", "kunlunxin", "birentech", "aws", "google",
    }  # fmt: skip
    assert {"nvidia-rtx-4090", "nvidia-h100-80gb-sxm", "amd-mi300x", "ascend-910b"} <= set(
        by_slug()
    )
    for family in families().values():
        assert family.check.strip() or family.vendor in ("aws", "google"), "sold without a proof"
        for model in family.models:
            # A model's own name in its label must never mean another model of the family as well.
            others = [
                m for m in family.models if m is not model and m.memory_mib == model.memory_mib
            ]
            for pattern in model.match:
                plain = pattern.pattern.replace("\\", "")
                assert not [m.slug for m in others if m.is_named(plain)], plain


@pytest.mark.parametrize(
    ("text", "number"),
    [("8", 8), ("1500m", 1.5), ("2Gi", 2**31), ("1k", 1000), ("", 0), ("-1", 0), ("1e3", 0),
     ("nan", 0), (None, 0), ([], 0), ("9" * 40, 0)],
)  # fmt: skip
def test_quantities(text, number) -> None:
    assert quantity(text) == number


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=15,
)


@given(anything, anything, anything)
def test_no_answer_breaks_the_reader(labels, spec, status) -> None:
    for item in (labels, {"metadata": {"name": "a", "uid": "b", "labels": labels},
                          "spec": spec, "status": status}):  # fmt: skip
        for node in parse.nodes([item]):
            assert all(share.unsold for share in node.shares if not share.accelerator)
