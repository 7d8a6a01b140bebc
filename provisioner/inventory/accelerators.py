"""The accelerator registry, read once from accelerators.toml. Pure: no database, no network.

Vendors differ in data only: nothing here or elsewhere names one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from provisioner.contracts import Accelerator
from provisioner.contracts.homogeneity import SharingMode

_FILE = Path(__file__).with_name("accelerators.toml")
# A card reports a little less than its nominal memory (ECC, firmware), never much more.
MEMORY_LOW, MEMORY_HIGH = 0.88, 1.06
_NO_SHARES = "a share of a card has no memory of its own and is not sold."


class Unsold(Exception):
    """These devices are not sold. ``reason`` is a short code, the message a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Model:
    slug: str
    name: str
    memory_mib: int
    match: tuple[re.Pattern[str], ...]
    interconnect: str
    partition: str = ""  # the profile, of a part of a card
    per_card: int = 1  # the most of these that one card can be
    splits: bool = False  # a card that its owner may have split

    def is_named(self, text: str) -> bool:
        """Whether a label's or a proof's model name means this model."""
        wanted = _normal(text)
        return any(pattern.fullmatch(wanted) for pattern in self.match)

    def has_memory(self, memory_mib: int) -> bool:
        return MEMORY_LOW * self.memory_mib <= memory_mib <= MEMORY_HIGH * self.memory_mib


@dataclass(frozen=True)
class Refuse:
    label: str
    pattern: re.Pattern[str]
    reason: str


@dataclass(frozen=True)
class Split:
    """Hardware partitions of a family's cards."""

    mark: str
    check: str
    read: str
    parts: tuple[Model, ...]


@dataclass(frozen=True)
class Family:
    """All models behind one extended resource name; fields as the file's head explains them."""

    vendor: str
    vendor_name: str
    resource: str
    aliases: tuple[str, ...]
    toolkit: str
    runtime_class: str
    model_labels: tuple[str, ...]
    model_label_prefixes: tuple[str, ...]
    memory_label: str
    memory_unit: str
    driver_labels: tuple[str, ...]
    toolkit_labels: tuple[str, ...]
    tool: str
    check: str
    usage: str
    refuse: tuple[Refuse, ...]
    models: tuple[Model, ...]
    driver_floor: str = ""
    toolkit_floor: str = ""
    driver_command: str = ""
    also: tuple[str, ...] = ()
    split: Split | None = None  # of cards that can be split, and of their parts
    profile: str = ""  # of a resource that counts parts of this profile alone

    @property
    def names(self) -> tuple[str, ...]:
        """Every resource that counts these very devices, or shares of them."""
        return (self.resource, *self.also, *self.aliases)

    def may_be_sold(self) -> None:
        """Raises Unsold where nothing would prove to a renter what they got."""
        if not self.check.strip():
            raise Unsold(
                "no_check",
                f"No command is known that would prove {self.vendor_name} devices inside a"
                " container, and what cannot be proven is not sold.",
            )

    def identify(self, labels: Mapping[str, str]) -> Model:
        """The one model that a node's labels name; raises Unsold with the reason otherwise."""
        for rule in self.refuse:
            value = labels.get(rule.label)
            if value is not None and rule.pattern.fullmatch(value):
                raise Unsold(rule.reason, f"{rule.label}={value[:80]}: {_NO_SHARES}")
        named = self._model_name(labels)
        if named is None:
            raise Unsold(
                "model_unknown",
                f"No label names the model behind {self.resource}: run the vendor's labeller.",
            )
        found = [model for model in self._sold_as(named) if model.is_named(self._whole(named))]
        memory = self._memory_mib(labels)
        if memory is not None:
            found = [model for model in found if model.has_memory(memory)]
        if len(found) != 1:
            raise Unsold(
                "model_unknown", f"The model {named[:80]!r} is not in the registry for sale."
            )
        return found[0]

    def _sold_as(self, named: str) -> tuple[Model, ...]:
        """The whole cards, or where the name says that it is a part the parts."""
        if self.split is None or self.profile or self.split.mark not in _normal(named):
            return self.models
        return self.split.parts

    def _whole(self, named: str) -> str:
        """The full name of a part whose profile only the resource tells."""
        if self.split is None or not self.profile or self.split.mark in _normal(named):
            return named
        return f"{named}{self.split.mark}{self.profile}"

    def driver(self, labels: Mapping[str, str]) -> str:
        return _joined(self.driver_labels, labels)

    def toolkit_max(self, labels: Mapping[str, str]) -> str:
        return _joined(self.toolkit_labels, labels)

    def _model_name(self, labels: Mapping[str, str]) -> str | None:
        for key in self.model_labels:
            if labels.get(key):
                return labels[key]
        for prefix in self.model_label_prefixes:
            for key in labels:
                if key.startswith(prefix) and len(key) > len(prefix):
                    return key[len(prefix) :]
        return None

    def _memory_mib(self, labels: Mapping[str, str]) -> int | None:
        text = labels.get(self.memory_label, "") if self.memory_label else ""
        number = re.match(r"[0-9]{1,9}", text)
        if number is None:
            return None
        return int(number.group()) * (1024 if self.memory_unit == "G" else 1)


@cache
def families() -> Mapping[str, Family]:
    """Every family by resource name. Raises ValueError for a file that contradicts itself."""
    named = [each for family in _rows() for each in _by_each_name(family)]
    found = {family.resource: family for family in named}
    slugs = [model.slug for family in _rows() for model in family.models]
    if len(found) != len(named) or len(set(slugs)) != len(slugs):
        raise ValueError("accelerators.toml names a resource or a slug twice")
    return found


@cache
def by_slug() -> Mapping[str, tuple[Family, Model]]:
    return {model.slug: (family, model) for family in _rows() for model in family.models}


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """The registry as other areas see it, in the file's order."""
    return tuple(
        Accelerator(
            slug=model.slug,
            vendor=family.vendor,
            name=model.name,
            memory_mib=model.memory_mib,
            resource_name=family.resource,
            sharing_modes=(sharing_mode(model),),
            toolkit=family.toolkit,
            interconnect=model.interconnect or None,
            partition=model.partition or None,
            vendor_name=family.vendor_name,
        )
        for family, model in by_slug().values()
    )


def sharing_mode(model: Model) -> str:
    return SharingMode.PARTITION.value if model.partition else SharingMode.WHOLE.value


@cache
def _rows() -> tuple[Family, ...]:
    """Each table of the file, followed by one family for every profile of its partitions."""
    with _FILE.open("rb") as file:
        tables = tomllib.load(file)["family"]
    return tuple(family for table in tables for family in _families(table))


def _by_each_name(family: Family) -> Iterator[Family]:
    names = (family.resource, *family.also)
    for name in names:
        yield replace(family, resource=name, also=tuple(other for other in names if other != name))


def _normal(text: str) -> str:
    return re.sub(r"[\s_]+", "-", text.strip())


def _joined(keys: tuple[str, ...], labels: Mapping[str, str]) -> str:
    """The labels' values joined by dots; "" unless the first is there."""
    values = []
    for key in keys:
        value = labels.get(key, "")
        if not re.fullmatch(r"[0-9A-Za-z.-]{1,20}", value):
            break
        values.append(value)
    return ".".join(values)


def _families(row: dict[str, object]) -> Iterator[Family]:
    data = dict(row)
    table = data.pop("partition", None)
    refuse = tuple(_refuse(item) for item in _tables(data.pop("refuse", [])))
    models = tuple(_model(item) for item in _tables(data.pop("model")))
    if data["tool"] not in ("runtime", "image"):
        raise ValueError("accelerators.toml: tool is runtime or image")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    family = Family(**plain, refuse=refuse, models=models)  # type: ignore[arg-type]
    if table is None:
        yield family
        return
    yield from _with_parts(family, _table(table))


def _with_parts(family: Family, table: dict[str, object]) -> Iterator[Family]:
    """The family, and one more for the resource of each profile."""
    mark = str(table["mark"])
    of = {model.slug: model for model in family.models}
    profiles: dict[str, list[Model]] = {}
    for row in _tables(table["profile"]):
        for slug in _words(row["of"]):
            profiles.setdefault(str(row["name"]), []).append(_part(of[slug], row, mark))
    parts = tuple(part for found in profiles.values() for part in found)
    split = Split(mark, str(table["check"]), str(table["read"]), parts)
    whole = {slug for row in _tables(table["profile"]) for slug in _words(row["of"])}
    yield replace(
        family,
        split=split,
        models=tuple(replace(model, splits=model.slug in whole) for model in family.models),
    )
    for profile, models in profiles.items():
        yield _of_profile(family, split, table, profile, tuple(models))


def _of_profile(
    family: Family, split: Split, table: dict[str, object], profile: str, models: tuple[Model, ...]
) -> Family:
    def named(text: object) -> str:
        return str(text).format(profile)

    return replace(
        family,
        resource=named(table["resource"]),
        also=(),
        aliases=tuple(map(named, _words(table["aliases"]))),
        model_labels=(*map(named, _words(table["model_labels"])), *family.model_labels),
        memory_label=named(table["memory_label"]),
        refuse=tuple(
            _refuse({**row, "label": named(row["label"])}) for row in _tables(table["refuse"])
        ),
        models=models,
        usage="",  # no figures of a part are known to us
        split=split,
        profile=profile,
    )


def _part(card: Model, row: dict[str, object], mark: str) -> Model:
    name = str(row["name"])
    behind = re.escape(mark + name)
    return Model(
        slug=f"{card.slug}{mark.lower()}{name}",
        name=f"{card.name} {mark.strip('-')} {name}",
        memory_mib=int(str(row["memory_mib"])),
        match=tuple(re.compile(f"(?:{p.pattern}){behind}", re.IGNORECASE) for p in card.match),
        interconnect="",  # parts do not reach each other over their cards' links
        partition=name,
        per_card=int(str(row["per_card"])),
        splits=True,
    )


def _tables(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise ValueError("accelerators.toml: a table list is expected")
    return value


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("accelerators.toml: a table is expected")
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("accelerators.toml: a list is expected")
    return tuple(map(str, value))


def _refuse(item: dict[str, object]) -> Refuse:
    return Refuse(str(item["label"]), re.compile(str(item["pattern"])), str(item["reason"]))


def _model(item: dict[str, object]) -> Model:
    return Model(
        slug=str(item["slug"]),
        name=str(item["name"]),
        memory_mib=int(str(item["memory_mib"])),
        match=tuple(re.compile(str(pattern), re.IGNORECASE) for pattern in _words(item["match"])),
        interconnect=str(item["interconnect"]),
    )
