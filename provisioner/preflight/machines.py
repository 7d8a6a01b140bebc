"""From nodes as the API server lists them to what preflight judges of them. PURE.

What a node sells is inventory's to read; here is what keeps one from being sold, which its owner
can put right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kernel.text import clean
from provisioner.inventory import parse
from provisioner.inventory.accelerators import families
from provisioner.inventory.parse import POOL_KEY, POOL_VALUE, NodeFacts, ShareFacts, is_pool_taint
from provisioner.preflight.facts import MachineFacts, Unasked
from provisioner.preflight.rules import by_slug

Json = dict[str, Any]

# A name that Kubernetes would not take as a resource's is an answer of somebody else's making.
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MOST_NAMES = 50


def is_labelled(item: Json) -> bool:
    labels = _map(_map(item.get("metadata")).get("labels"))
    return bool(labels.get(POOL_KEY) == POOL_VALUE)


def tainted_name(item: Json) -> str:
    """The name of a node with our taint; "" for any other."""
    taints = _map(item.get("spec")).get("taints")
    found = taints if isinstance(taints, list) else []
    if not any(is_pool_taint(_map(taint)) for taint in found[:64]):
        return ""
    return clean(_map(item.get("metadata")).get("name") or "", limit=253)


def machines(pool: Sequence[Json], *, only_taint: tuple[str, ...] | Unasked) -> MachineFacts:
    """``pool``: the nodes with our label."""
    found = parse.nodes(pool)
    aside = [node for node in found if node.unsold is None]
    old, told = _floors(
        aside, lambda share: (share.driver, families()[share.resource].driver_floor)
    )
    behind, shown = _floors(
        aside, lambda share: (share.toolkit_max, families()[share.resource].toolkit_floor)
    )
    wanted = {families()[share.resource].runtime_class for node in aside for share in node.shares}
    return MachineFacts(
        both=len(aside),
        only_label=tuple(node.name for node in found if node.unsold is not None),
        only_taint=only_taint,
        unknown=_unknown(pool),
        doubled=_doubled(aside),
        old_drivers=old,
        drivers_told=told,
        old_toolkits=behind,
        toolkits_told=shown,
        classes_wanted=tuple(sorted(wanted - {""})),
    )


def _unknown(pool: Iterable[Json]) -> tuple[tuple[str, int], ...]:
    """Resources of vendors that the registry knows neither as a name nor as an alias."""
    known = {name for family in families().values() for name in (family.resource, *family.aliases)}
    ignored = tuple(by_slug()["resource_names"].figures["ignored"])
    counted: Counter[str] = Counter()
    for item in pool:
        for name, amount in _map(_map(item.get("status")).get("capacity")).items():
            strange = name not in known and not name.startswith(ignored)
            if strange and _RESOURCE.fullmatch(name) and str(amount) != "0":
                counted[name] += 1
    return tuple(sorted(counted.items())[:_MOST_NAMES])


def _doubled(aside: Iterable[NodeFacts]) -> tuple[str, ...]:
    said = (
        share.unsold[1]
        for node in aside
        for share in node.shares
        if share.unsold is not None and share.unsold[0] == "advertised_twice"
    )
    return tuple(dict.fromkeys(said))


def _floors(
    aside: Iterable[NodeFacts], told_and_floor: Callable[[ShareFacts], tuple[str, str]]
) -> tuple[tuple[tuple[str, str, str], ...], int]:
    """(nodes below their family's floor, how many tell a version that has one)."""
    old, told = [], set()
    for node in aside:
        for share in node.shares:
            version, floor = told_and_floor(share)
            if not floor or not version:
                continue
            told.add(node.name)
            if _numbers(version) < _numbers(floor):
                old.append((node.name, version, floor))
    return tuple(old[:_MOST_NAMES]), len(told)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"[0-9]{1,9}", version)]


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}
