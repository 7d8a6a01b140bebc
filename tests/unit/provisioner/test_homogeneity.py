"""Fingerprints of groups, and whether machines are of one kind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from kernel.ids import new_id
from provisioner.contracts.homogeneity import ProvenCard, ProvenMachine
from provisioner.inventory.homogeneity import UNPROVEN, certify, fingerprint
from provisioner.models import DeviceGroup

T0 = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
GROUP: dict[str, Any] = {
    "accelerator": "nvidia-h100-80gb-sxm",
    "memory_mib": 81920,
    "driver": "550.54.15",
    "cuda_max": "12.4",
    "sharing_mode": "whole",
    "vcpus_milli_per_gpu": 23500,
    "ram_mib_per_gpu": 261120,
    "disk_mib_per_gpu": 2580480,
}


def group(**more: Any) -> DeviceGroup:
    return DeviceGroup(**{**GROUP, **more})


def test_a_fingerprint_is_the_same_everywhere_and_tells_every_difference_apart() -> None:
    one = fingerprint(group())
    assert one == fingerprint(group(id=new_id(), cluster_id=new_id(), slots_free=3, listed_ok=True))
    assert one == "fp-a4b9637b0c061560", "offers that were noted by it would not be found again"
    others = {
        fingerprint(group(**{name: value}))
        for name, value in {
            "accelerator": "nvidia-h100-80gb-pcie",
            "memory_mib": 81559,
            "driver": "550.54.16",
            "cuda_max": "12.5",
            "sharing_mode": "partition",
            "vcpus_milli_per_gpu": 23000,
            "ram_mib_per_gpu": 1,
            "disk_mib_per_gpu": 1,
        }.items()
    }
    assert len(others | {one}) == 9


def machine(number: int = 0, **more: Any) -> ProvenMachine:
    plain = ProvenMachine(
        instance_id=UUID(int=number),
        fingerprint="fp-1",
        driver="550.54.15",
        toolkit_max="12.4",
        proven_at=T0,
        cards=tuple(ProvenCard(f"GPU-{number}-{i}", "NVIDIA H100", 81559) for i in range(2)),
    )
    return replace(plain, **more)


def test_machines_of_one_kind_are_certified() -> None:
    for machines in ([machine()], [machine(n) for n in range(4)]):
        found = certify(machines, of=len(machines))
        assert (found.homogeneous, found.differences) == (True, ())
        assert found.machines == tuple(machines)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"fingerprint": "fp-2"}, "fingerprint: fp-1, fp-2"),
        ({"cards": (ProvenCard("GPU-9", "NVIDIA H100 PCIe", 81559),)}, "model"),
        ({"cards": (ProvenCard("GPU-9", "NVIDIA H100", 81920),)}, "memory: 81559 MiB, 81920 MiB"),
        ({"cards": (ProvenCard("GPU-9", "NVIDIA H100", None),)}, "memory"),
        ({"cards": (ProvenCard("GPU-0-0", "NVIDIA H100", 81559),)}, "by more than one machine"),
    ],
)
def test_every_difference_is_named(other: dict[str, Any], words: str) -> None:
    found = certify([machine(), machine(1, **other)], of=2)
    assert found.homogeneous is False
    assert len(found.differences) == 1
    assert words in found.differences[0]


def test_cards_of_one_machine_can_differ() -> None:
    cards = (ProvenCard("GPU-1", "NVIDIA H100", 81559), ProvenCard("GPU-2", "NVIDIA L4", 23034))
    assert len(certify([machine(cards=cards)], of=1).differences) == 2


@pytest.mark.parametrize("machines", [[], [machine()], [machine(), machine(1, cards=())]])
def test_what_is_not_proven_of_every_machine_is_not_certified(machines) -> None:
    found = certify(machines, of=2)
    assert (found.homogeneous, found.differences) == (None, (UNPROVEN,))
