"""The accelerator registry, read once from accelerators.toml. Pure: no database, no network.

Vendors differ in data only: nothing here or elsewhere names one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from provisioner.contracts import Accelerator

_FILE = Path(__file__).with_name("accelerators.toml")
# A card reports a little less than its nominal memory (ECC, firmware), never much more.
MEMORY_LOW, MEMORY_HIGH = 0.88, 1.06


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

    def identify(self, labels: Mapping[str, str]) -> Model:
        """The one model that a node's labels name; raises Unsold with the reason otherwise."""
        for rule in self.refuse:
            value = labels.get(rule.label)
            if value is not None and rule.pattern.fullmatch(value):
                raise Unsold(rule.reason, f"{rule.label}={value[:80]}: only whole cards are sold.")
        named = self._model_name(labels)
        if named is None:
            raise Unsold(
                "model_unknown",
                f"No label names the model behind {self.resource}: run the vendor's labeller.",
            )
        found = [model for model in self.models if model.is_named(named)]
        memory = self._memory_mib(labels)
        if memory is not None:
            found = [model for model in found if model.has_memory(memory)]
        if len(found) != 1:
            raise Unsold(
                "model_unknown", f"The model {named[:80]!r} is not in the registry for sale."
            )
        return found[0]

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
    with _FILE.open("rb") as file:
        rows = tomllib.load(file)["family"]
    by_resource = {row["resource"]: _family(row) for row in rows}
    slugs = [model.slug for family in by_resource.values() for model in family.models]
    if len(by_resource) != len(rows) or len(set(slugs)) != len(slugs):
        raise ValueError("accelerators.toml names a resource or a slug twice")
    return by_resource


@cache
def by_slug() -> Mapping[str, tuple[Family, Model]]:
    return {
        model.slug: (family, model) for family in families().values() for model in family.models
    }


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
            sharing_modes=("whole",),
            toolkit=family.toolkit,
            interconnect=model.interconnect or None,
        )
        for family, model in by_slug().values()
    )


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


def _family(row: dict[str, object]) -> Family:
    data = dict(row)
    refuse = [_refuse(item) for item in _tables(data.pop("refuse", []))]
    models = [_model(item) for item in _tables(data.pop("model"))]
    if data["tool"] not in ("runtime", "image"):
        raise ValueError("accelerators.toml: tool is runtime or image")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    return Family(**plain, refuse=tuple(refuse), models=tuple(models))  # type: ignore[arg-type]


def _tables(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list):
        raise ValueError("accelerators.toml: a table list is expected")
    return value


def _refuse(item: dict[str, object]) -> Refuse:
    return Refuse(str(item["label"]), re.compile(str(item["pattern"])), str(item["reason"]))


def _model(item: dict[str, object]) -> Model:
    patterns = item["match"]
    if not isinstance(patterns, list):
        raise ValueError("accelerators.toml: match is a list")
    return Model(
        slug=str(item["slug"]),
        name=str(item["name"]),
        memory_mib=int(str(item["memory_mib"])),
        match=tuple(re.compile(str(pattern), re.IGNORECASE) for pattern in patterns),
        interconnect=str(item["interconnect"]),
    )
