"""Cards that their owner split in hardware, shares that are none, and cards under several names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provisioner.contracts import InstanceState
from provisioner.inventory import parse
from provisioner.inventory.accelerators import by_slug, families
from provisioner.inventory.parse import ShareFacts
from provisioner.reconcile import decide
from provisioner.reconcile.decide import End, Go
from tests.unit.provisioner.pods import running_pod
from tests.unit.provisioner.test_decide import T0, known
from tests.unit.provisioner.test_nodes import NVIDIA, node_json, only

PART = "nvidia-h100-80gb-sxm-mig-1g.10gb"
MIG_1G = "nvidia.com/mig-1g.10gb"
# As the labeller writes them for the mixed strategy: the whole card's name, figures by profile.
MIXED = {
    **NVIDIA,
    "nvidia.com/mig.strategy": "mixed",
    f"{MIG_1G}.count": "7",
    f"{MIG_1G}.memory": "9728",
    f"{MIG_1G}.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
    "nvidia.com/mig-3g.40gb.memory": "40192",
}
SINGLE = {
    **NVIDIA,
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
    "nvidia.com/gpu.memory": "9728",
    "nvidia.com/mig.strategy": "single",
}


def shares(labels: dict[str, str], devices: dict[str, int], **more: Any) -> dict[str, ShareFacts]:
    return {share.resource: share for share in only(node_json(labels, devices, **more)).shares}


def reason(share: ShareFacts) -> str:
    return share.unsold[0] if share.unsold else ""


def test_cards_and_parts_of_one_node_are_groups_of_their_own() -> None:
    """Of eight cards four are whole, two in seven parts each, two in two."""
    found = shares(
        MIXED, {"nvidia.com/gpu": 4, MIG_1G: 14, "nvidia.com/mig-3g.40gb": 4, "cpu": 191}
    )
    assert [reason(share) for share in found.values()] == ["", "", ""]
    kinds = {s.accelerator: (s.sharing_mode, s.memory_mib, s.capacity) for s in found.values()}
    assert kinds == {
        "nvidia-h100-80gb-sxm": ("whole", 81920, 4),
        PART: ("partition", 9856, 14),
        "nvidia-h100-80gb-sxm-mig-3g.40gb": ("partition", 40192, 4),
    }
    # A whole card brings an eighth of the machine, however many parts the others were split into.
    whole, seventh, half = (share.vcpus_milli for share in found.values())
    assert whole == only(node_json()).shares[0].vcpus_milli == 23500
    assert (seventh, half) == (3000, 11500)
    assert sum(s.vcpus_milli * s.capacity for s in found.values()) <= 191_000
    assert sum(s.ram_mib * s.capacity for s in found.values()) <= 2044 * 1024


def test_the_single_strategy_sells_the_same_kind_under_the_cards_own_resource() -> None:
    mixed = shares(MIXED, {MIG_1G: 56})[MIG_1G]
    single = shares(SINGLE, {"nvidia.com/gpu": 56})["nvidia.com/gpu"]
    assert single.unsold is None
    assert (single.accelerator, single.sharing_mode) == (PART, "partition")
    assert (single.vcpus_milli, single.memory_mib) == (mixed.vcpus_milli, mixed.memory_mib)


def test_one_part_under_two_names_in_a_cluster_is_not_sold() -> None:
    nodes = parse.nodes([
        node_json(MIXED, {MIG_1G: 56}, name="a"),
        node_json(SINGLE, {"nvidia.com/gpu": 56}, name="b"),
    ])  # fmt: skip
    assert {reason(s) for node in nodes for s in node.shares} == {"advertised_twice"}


@pytest.mark.parametrize(
    ("labels", "resource", "code"),
    [
        ({f"{MIG_1G}.replicas": "4"}, MIG_1G, "time_sliced"),
        ({f"{MIG_1G}.sharing-strategy": "time-slicing"}, MIG_1G, "time_sliced"),
        ({f"{MIG_1G}.sharing-strategy": "none", f"{MIG_1G}.replicas": "1"}, MIG_1G, ""),
        ({f"{MIG_1G}.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED"}, MIG_1G, "time_sliced"),
        # Labels that contradict the resource: another profile, another size, another card.
        ({f"{MIG_1G}.product": "NVIDIA-H100-80GB-HBM3-MIG-2g.20gb"}, MIG_1G, "model_unknown"),
        ({f"{MIG_1G}.memory": "4864"}, MIG_1G, "model_unknown"),
        ({f"{MIG_1G}.product": "", "nvidia.com/gpu.product": "NVIDIA-L4"}, MIG_1G, "model_unknown"),
        # Older labellers name the card alone: the profile is the resource's.
        ({f"{MIG_1G}.product": ""}, MIG_1G, ""),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-INVALID"}, "nvidia.com/gpu",
         "model_unknown"),
        ({"nvidia.com/gpu.product": "NVIDIA-B200-MIG-1g.23gb"}, "nvidia.com/gpu", "model_unknown"),
        # Whole cards whose time is shared beside parts that are not.
        ({"nvidia.com/gpu.replicas": "4"}, MIG_1G, ""),
    ],
)  # fmt: skip
def test_a_part_is_sold_only_where_every_label_agrees(labels, resource, code) -> None:
    (share,) = shares({**MIXED, **labels}, {resource: 7}).values()
    assert reason(share) == code, share.unsold


def test_a_part_is_never_named_like_its_card() -> None:
    whole, part = by_slug()["nvidia-h100-80gb-sxm"][1], by_slug()[PART][1]
    assert whole.is_named("NVIDIA H100 80GB HBM3")
    assert not whole.is_named("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    assert part.is_named("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    assert not part.is_named("NVIDIA H100 80GB HBM3")
    for family in families().values():
        for model in family.models:
            assert bool(model.partition) == ("-mig-" in model.slug) == bool(family.profile)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("nvidia.com/gpu.shared", NVIDIA),
        ("nvidia.com/mig-1g.10gb.shared", MIXED),
        ("huawei.com/Ascend910B3", {"node.kubernetes.io/npu.chip.name": "910B3"}),
        ("iluvatar.ai/BI-V150-vgpu", {}),
    ],
)
def test_shares_alone_are_refused_with_a_reason_their_owner_reads(name, labels) -> None:
    (share,) = shares(labels, {name: 12}).values()
    assert share.unsold is not None
    assert (share.resource, share.unsold[0]) == (name, "shared")
    assert name in share.unsold[1]


def test_what_nothing_proves_is_not_sold() -> None:
    trainium = {"node.kubernetes.io/instance-type": "trn1.32xlarge"}
    tpu = {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"}
    for labels, name in ((trainium, "aws.amazon.com/neuron"), (tpu, "google.com/tpu")):
        (share,) = shares(labels, {name: 8}).values()
        assert reason(share) == "no_check"


def test_a_typed_name_counts_the_same_cards_and_never_beside_the_first() -> None:
    labels = {"cambricon.com/mlu.product": "MLU370-X8"}
    typed = shares(labels, {"cambricon.com/mlu370": 8})["cambricon.com/mlu370"]
    plain = shares(labels, {"cambricon.com/mlu": 8})["cambricon.com/mlu"]
    assert typed.unsold is None
    assert typed.accelerator == plain.accelerator == "cambricon-mlu370-x8"
    both = shares(labels, {"cambricon.com/mlu370": 8, "cambricon.com/mlu": 8})
    assert {reason(share) for share in both.values()} == {"advertised_twice"}
    apart = parse.nodes([
        node_json(labels, {"cambricon.com/mlu370": 8}, name="a"),
        node_json(labels, {"cambricon.com/mlu": 8}, name="b"),
    ])  # fmt: skip
    assert {reason(s) for node in apart for s in node.shares} == {"advertised_twice"}


def parts(number: int, profile: str = "1g.10gb", memory: str = "null") -> str:
    rows = [
        f'{{"uid": "MIG-{i}", "model": "NVIDIA H100 80GB HBM3 MIG {profile}",'
        f' "memory_mib": {memory}, "used_mib": null}}'
        for i in range(number)
    ]
    return f'{{"devices": [{", ".join(rows)}]}}'


def decided(slug: str, message: str, gpus: int) -> decide.Decision:
    row = known(InstanceState.STARTING, gpus=gpus)
    model = by_slug()[slug][1]
    return decide.present(replace(row, model=model), running_pod(message), T0)


def test_the_proof_of_parts_is_their_number_and_profile() -> None:
    ready = decided(PART, parts(2), 2)
    assert isinstance(ready, Go)
    assert ready.evidence["devices"] == [
        {"uid": f"MIG-{i}", "model": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"} for i in range(2)
    ]
    for message, gpus in ((parts(1), 2), (parts(2, "2g.20gb"), 2), (parts(1, memory="4864"), 1)):
        ended = decided(PART, message, gpus)
        assert isinstance(ended, End)
        assert ended.reason == "order_mismatch"
    assert isinstance(decided(PART, parts(1, memory="9728"), 1), Go)


def test_a_part_never_passes_for_a_card_nor_a_card_for_a_part() -> None:
    whole = '{"devices": [{"uid": "GPU-0", "model": "NVIDIA H100 80GB HBM3", "memory_mib": 81559}]}'
    untold = whole.replace("81559", "null")
    for slug, message in (
        ("nvidia-h100-80gb-sxm", parts(1)),
        (PART, whole),
        (PART, untold),
        ("nvidia-h100-80gb-sxm", untold),  # a whole card tells its memory
    ):
        assert isinstance(decided(slug, message, 1), End), (slug, message)
