"""From a cluster's storage classes to where volumes can live there. PURE; rules in storage.toml.

Answers are hostile or newer than we are: a class that cannot be read is no class.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kernel.text import clean
from provisioner.contracts import StorageDomain

Json = dict[str, Any]

_FILE = Path(__file__).with_name("storage.toml")
_AT_FIRST_USE = "WaitForFirstConsumer"


@dataclass(frozen=True)
class StorageFacts:
    """``reason`` says why this class and domain, or why none."""

    reason: str
    name: str = ""
    domain: StorageDomain = StorageDomain.NONE
    reclaim: str = ""
    waits: bool = False
    expands: bool = False


NO_CLASSES = StorageFacts("The cluster has no storage class.")
NOT_SHOWN = StorageFacts(
    "The token may not list storage classes: apply the present provider bundle."
)


@dataclass(frozen=True)
class _Rules:
    choose_label: str
    domain_label: str
    default_annotations: tuple[str, ...]
    provisioners: tuple[tuple[re.Pattern[str], StorageDomain], ...]


@dataclass(frozen=True)
class _Class:
    name: str
    provisioner: str
    labels: Json
    annotations: Json
    reclaim: str
    waits: bool
    expands: bool


def storage_of(items: Iterable[object]) -> StorageFacts:
    """The class for volumes and its domain; name "" and domain none where there is none."""
    classes = [found for item in items if (found := _class(item)) is not None]
    chosen, why = _choose(sorted(classes, key=lambda found: found.name))
    if chosen is None:
        return StorageFacts(why) if classes else NO_CLASSES
    domain, because = _domain(chosen)
    if domain == StorageDomain.NONE:
        return StorageFacts(because)
    return StorageFacts(
        reason=f"{why} {because}",
        name=chosen.name,
        domain=domain,
        reclaim=chosen.reclaim,
        waits=chosen.waits,
        expands=chosen.expands,
    )


@cache
def _rules() -> _Rules:
    data = tomllib.loads(_FILE.read_text())
    return _Rules(
        choose_label=data["choose_label"],
        domain_label=data["domain_label"],
        default_annotations=tuple(data["default_annotations"]),
        provisioners=tuple(
            (re.compile(row["match"]), StorageDomain(row["domain"])) for row in data["provisioner"]
        ),
    )


def _class(item: object) -> _Class | None:
    whole = _map(item)
    meta = _map(whole.get("metadata"))
    name = meta.get("name")
    if not isinstance(name, str) or not name or clean(name, limit=253) != name:
        return None
    provisioner = whole.get("provisioner")
    return _Class(
        name=name,
        provisioner=provisioner[:253] if isinstance(provisioner, str) else "",
        labels=_map(meta.get("labels")),
        annotations=_map(meta.get("annotations")),
        reclaim="Retain" if whole.get("reclaimPolicy") == "Retain" else "Delete",
        waits=whole.get("volumeBindingMode") == _AT_FIRST_USE,
        expands=whole.get("allowVolumeExpansion") is True,
    )


def _choose(classes: list[_Class]) -> tuple[_Class | None, str]:
    rules = _rules()
    for found in classes:
        if found.labels.get(rules.choose_label) == "true":
            return found, f"{found.name} has the label {rules.choose_label}=true."
    for found in classes:
        if any(found.annotations.get(key) == "true" for key in rules.default_annotations):
            return found, f"{found.name} is the cluster's default class."
    return None, f"No storage class has the label {rules.choose_label}=true or is the default."


def _domain(found: _Class) -> tuple[StorageDomain, str]:
    rules = _rules()
    named = found.labels.get(rules.domain_label)
    if named in list(StorageDomain):
        return StorageDomain(named), f"Its domain is {named} by the label {rules.domain_label}."
    shown = clean(found.provisioner, limit=80)
    for pattern, domain in rules.provisioners:
        if not pattern.fullmatch(found.provisioner):
            continue
        if domain == StorageDomain.NODE and not found.waits:
            return StorageDomain.NONE, (
                f"{found.name} keeps data on one node ({shown}) and binds before a node with free "
                f"cards is chosen: set volumeBindingMode to {_AT_FIRST_USE}."
            )
        return domain, f"Its domain is {domain} by its provisioner {shown}."
    return StorageDomain.NODE, (
        f"Its provisioner {shown} is not known, so its data is taken to stay on one node; the "
        f"label {rules.domain_label}=cluster says otherwise."
    )


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}
