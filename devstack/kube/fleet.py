"""Which machines a simulated cluster has: presets or a file, turned into node descriptions.

Labels come from cards.toml, machines from fleets.toml or a file of the same shape. Pure: nothing
here talks to a server.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

POOL_KEY, POOL_VALUE = "gpuyard.io/pool", "rental"

_HERE = Path(__file__).parent
# Any fixed value: device ids must be the same after a restart and differ between clusters.
_DEVICE_IDS = uuid.UUID("5f0c0f53-1d2e-4f0a-9a53-3f6f0e1f4f11")


class FleetError(ValueError):
    """A fleet or card description is not usable; the message names the entry."""


@dataclasses.dataclass(frozen=True)
class Card:
    """One kind of card as cards.toml describes it."""

    name: str
    resource: str
    model: str
    memory_mib: int
    uid_prefix: str
    driver: str
    labels: Mapping[str, str]
    cuda: str | None = None
    arch: str = "amd64"
    tells_memory: bool = True  # a part of a card leaves it to its profile


@dataclasses.dataclass(frozen=True)
class Machine:
    """One node: its name, its cards and what surrounds them. `labelled`: a labeller runs on it.
    `also`: further kinds of cards in a mixed one, with their numbers."""

    name: str
    number: int
    card: Card
    cards: int
    cpu: int
    memory_gib: int
    disk_gib: int
    set_aside: bool = True
    labelled: bool = True
    also: tuple[tuple[Card, int], ...] = ()

    @property
    def kinds(self) -> tuple[tuple[Card, int], ...]:
        return ((self.card, self.cards), *self.also)

    def device_uids(self, cluster: str, card: Card | None = None) -> list[str]:
        """Of the first kind of cards, or of another."""
        kind = card or self.card
        count = next(number for each, number in self.kinds if each == kind)
        place = f"{cluster}/{self.name}" + ("" if kind == self.card else f"/{kind.name}")
        return [
            f"{kind.uid_prefix}{uuid.uuid5(_DEVICE_IDS, f'{place}/{position}')}"
            for position in range(count)
        ]

    def card_of(self, spec: Mapping[str, Any]) -> Card:
        """The kind of cards that a pod asks for; the first where it asks for none."""
        asked = {
            name
            for container in spec["containers"]
            for name in container.get("resources", {}).get("limits", {})
        }
        return next((card for card, _ in self.kinds if card.resource in asked), self.card)

    def labels(self) -> dict[str, str]:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": self.card.arch,
        }
        if self.labelled:
            for card, count in self.kinds:
                for key, value in card.labels.items():
                    labels[key] = value.replace("{count}", str(count))
        if self.set_aside:
            labels[POOL_KEY] = POOL_VALUE
        return labels

    def taints(self) -> list[dict[str, str]]:
        taint = {"key": POOL_KEY, "value": POOL_VALUE, "effect": "NoSchedule"}
        return [taint] if self.set_aside else []

    def capacity(self) -> dict[str, str]:
        return {
            "cpu": str(self.cpu),
            "memory": f"{self.memory_gib}Gi",
            "ephemeral-storage": f"{self.disk_gib}Gi",
            "hugepages-2Mi": "0",
            "pods": "110",
            **{card.resource: str(count) for card, count in self.kinds},
        }

    def allocatable(self, healthy: Mapping[str, int]) -> dict[str, str]:
        """Capacity without what the system keeps and without cards that are broken."""
        return {
            **self.capacity(),
            "cpu": str(self.cpu - 1),
            "memory": f"{self.memory_gib - 4}Gi",
            "ephemeral-storage": f"{self.disk_gib * 9 // 10}Gi",
            **{name: str(count) for name, count in healthy.items()},
        }


def load_cards(path: Path = _HERE / "cards.toml") -> dict[str, Card]:
    """All cards by name. Raises FleetError for an entry with missing or unknown fields."""
    cards = {}
    for name, fields in tomllib.loads(path.read_text()).items():
        try:
            cards[name] = Card(name=name, **fields)
        except TypeError as error:
            raise FleetError(f"{path.name}: card {name}: {error}") from error
    return cards


def load_fleet(cluster: str, source: str) -> list[Machine]:
    """From a preset's name or a file: TOML (`[[<cluster>]]` groups), or JSON (a list of groups)."""
    path = Path(source)
    if not path.suffix:
        fleets = tomllib.loads((_HERE / "fleets.toml").read_text())
        if source not in fleets:
            raise FleetError(f"no fleet preset {source!r}; there are {', '.join(fleets)}")
        return machines(cluster, fleets[source])
    if path.suffix == ".json":
        return machines(cluster, json.loads(path.read_text()))
    if path.suffix != ".toml":
        raise FleetError(f"a fleet is a .toml or .json file, not {path.name}")
    return machines(cluster, tomllib.loads(path.read_text())[cluster])


def machines(cluster: str, groups: Sequence[Mapping[str, Any]]) -> list[Machine]:
    """Nodes of `groups` with names `<cluster>-<card>-NN`. Raises FleetError for a bad group."""
    cards = load_cards()
    made: list[Machine] = []
    counters: dict[str, int] = {}
    for group in groups:
        fields = dict(group)
        card, count = fields.pop("card", None), fields.pop("nodes", 1)
        also = fields.pop("also", [])
        for named in (card, *(more.get("card") for more in also)):
            if named not in cards:
                raise FleetError(f"{cluster}: unknown card {named!r}; there are {', '.join(cards)}")
        fields["also"] = tuple((cards[more["card"]], int(more["cards"])) for more in also)
        for _ in range(count):
            counters[card] = counters.get(card, 0) + 1
            name = f"{cluster}-{card}-{counters[card]:02d}"
            try:
                made.append(Machine(name=name, number=len(made) + 1, card=cards[card], **fields))
            except TypeError as error:
                raise FleetError(f"{cluster}: group of {card}: {error}") from error
    return made
