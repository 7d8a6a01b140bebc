"""The fake cards of a real node: what the device plugin offers and what the tools in pods say.

What a card is comes from the same cards.toml as the simulated nodes'. Vendors differ in how a
container is told its cards and where it finds the tool; that is all this module knows of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devstack.kube.fleet import Card, Machine, load_cards

# Where cards.json is mounted in every container with a card; cardtools/main.go reads it there.
IN_POD = "/run/fake-cards"
_IDLE_CELSIUS = 34


@dataclasses.dataclass(frozen=True)
class _Vendor:
    visible: str  # variable with the allocated cards
    by_number: bool  # ... by their number on the machine instead of their id
    file: str  # device node of a card
    common: tuple[str, ...]  # device nodes beside those of the cards
    tool: str
    part: str = ""  # device node of a part of a card


_VENDORS = {
    "nvidia.com": _Vendor(
        visible="NVIDIA_VISIBLE_DEVICES",
        by_number=False,
        file="/dev/nvidia{number}",
        common=("/dev/nvidiactl", "/dev/nvidia-uvm"),
        tool="/usr/bin/nvidia-smi",
        part="/dev/nvidia-caps/nvidia-cap{number}",
    ),
    "huawei.com": _Vendor(
        visible="ASCEND_VISIBLE_DEVICES",
        by_number=True,
        file="/dev/davinci{number}",
        common=("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"),
        tool="/usr/local/bin/npu-smi",
    ),
}


@dataclasses.dataclass(frozen=True)
class Group:
    """`count` cards of the kind that cards.toml calls `card`."""

    card: str
    count: int


@dataclasses.dataclass
class FakeCard:
    """One card and its present condition, as a container's tool reports it."""

    id: str
    number: int  # on the machine, within its resource
    kind: Card
    used_mib: int = 0
    utilization: int = 0  # percent
    celsius: int = _IDLE_CELSIUS
    dead: bool = False

    @property
    def file(self) -> str:
        vendor = _vendor(self.kind)
        file = vendor.file if self.kind.tells_memory else vendor.part
        return file.format(number=self.number)


class FakeCards:
    """All cards of a node, with their files in `folder`. Changes are in force within a second."""

    def __init__(self, folder: Path, cluster: str, node: str, groups: Sequence[Group]) -> None:
        """ValueError for an unknown kind of card or vendor, or two kinds of one resource."""
        self.folder = folder
        self.cards: list[FakeCard] = []
        self.labels: dict[str, str] = {}
        kinds = load_cards()
        for group in groups:
            if group.card not in kinds:
                raise ValueError(f"no card {group.card!r}; there are {', '.join(kinds)}")
            kind = kinds[group.card]
            _vendor(kind)
            if self.of(kind.resource):
                raise ValueError(f"{kind.resource} would stand for two kinds of card")
            machine = Machine(node, 1, kind, group.count, cpu=0, memory_gib=0, disk_gib=0)
            self.cards += [
                FakeCard(uid, number, kind)
                for number, uid in enumerate(machine.device_uids(cluster))
            ]
            self.labels |= {
                key: value.replace("{count}", str(group.count))
                for key, value in kind.labels.items()
            }
        self._shown = folder / "shown"  # mounted as a directory, so that its file can be replaced
        self._shown.mkdir(parents=True)
        self.write()

    @property
    def resources(self) -> list[str]:
        return list(dict.fromkeys(card.kind.resource for card in self.cards))

    def of(self, resource: str) -> list[FakeCard]:
        return [card for card in self.cards if card.kind.resource == resource]

    def allocatable(self) -> dict[str, str]:
        """What the node's status should say of the cards."""
        return {
            resource: str(sum(not card.dead for card in self.of(resource)))
            for resource in self.resources
        }

    def write(self) -> None:
        """Put the present condition of all cards into force."""
        _replace(self._shown / "cards.json", json.dumps([_told(card) for card in self.cards]))
        _replace(self.folder / "dead", "\n".join(card.id for card in self.cards if card.dead))

    def plugin_spec(self, sockets: Path, tool: Path) -> dict[str, Any]:
        """What deviceplugin/main.go is given. `tool` is the binary behind all vendors' tools."""
        return {
            "Folder": str(sockets),
            "Dead": str(self.folder / "dead"),
            "Resources": [self._offer(resource, tool) for resource in self.resources],
        }

    def _offer(self, resource: str, tool: Path) -> dict[str, Any]:
        vendor = _vendor(self.of(resource)[0].kind)
        return {
            "Name": resource,
            "Visible": vendor.visible,
            "Devices": [
                {
                    "ID": card.id,
                    "Visible": str(card.number) if vendor.by_number else card.id,
                    "Nodes": {"Files": [_harmless(card.file)]},
                }
                for card in self.of(resource)
            ],
            "Common": {
                "Files": [_harmless(each) for each in vendor.common],
                "Mounts": [
                    {"Host": str(tool), "Container": vendor.tool},
                    {"Host": str(self._shown), "Container": IN_POD},
                ],
            },
        }


def _vendor(kind: Card) -> _Vendor:
    name = kind.resource.partition("/")[0]
    if name not in _VENDORS:
        raise ValueError(f"no fake cards of {kind.resource}; there are {', '.join(_VENDORS)}")
    return _VENDORS[name]


def _harmless(path: str) -> dict[str, str]:
    """A device node that exists everywhere and does nothing, under a card's name."""
    return {"Host": "/dev/null", "Container": path}


def _told(card: FakeCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "model": card.kind.model,
        "resource": card.kind.resource,
        "memory_mib": card.kind.memory_mib,
        "driver": card.kind.driver,
        "toolkit": card.kind.cuda or "",
        "number": card.number,
        "file": card.file,
        "used_mib": card.used_mib,
        "utilization": card.utilization,
        "celsius": card.celsius,
        "dead": card.dead,
    }


def _replace(path: Path, text: str) -> None:
    """In one step: pods read at any time, as any user."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
