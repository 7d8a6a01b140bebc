"""Nodes as the API server lists them, read into what can be sold of them. PURE.

Answers are hostile or newer than we are: a field of an unexpected type reads as missing, and what
is not understood is not sold, with a reason that its owner can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from kernel.quantity import quantity
from kernel.text import clean
from provisioner.contracts.homogeneity import SharingMode
from provisioner.inventory.accelerators import Family, Model, Unsold, families, sharing_mode

Json = dict[str, Any]

POOL_KEY, POOL_VALUE = "gpuyard.io/pool", "rental"
# Left to the node's own services (network, logs, device plugin), which run beside the renters.
RESERVED_CPU_MILLI = 500
RESERVED_MEMORY_MIB = 1024
# The kubelet evicts pods when a tenth of the disk is left; images need room as well.
DISK_SHARE = 0.8
# Figures per card are rounded down to these, so that machines that differ by a few megabytes are
# still one homogeneous group.
CPU_STEP_MILLI, MEMORY_STEP_MIB, DISK_STEP_MIB = 500, 1024, 10 * 1024
MAX_DEVICES = 1024  # on one node; more is a mistake or an attack


@dataclass(frozen=True)
class ShareFacts:
    """The devices of one resource on one node. ``unsold``: (code, sentence) if not for sale."""

    resource: str
    capacity: int  # devices there are
    healthy: int  # devices the node offers now
    accelerator: str = ""
    vendor: str = ""
    memory_mib: int = 0
    driver: str = ""
    toolkit_max: str = ""
    vcpus_milli: int = 0  # per device, like the next two
    ram_mib: int = 0
    disk_mib: int = 0
    sharing_mode: str = SharingMode.WHOLE.value
    unsold: tuple[str, str] | None = None


@dataclass(frozen=True)
class NodeFacts:
    name: str
    uid: str
    ready: bool
    schedulable: bool
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    shares: tuple[ShareFacts, ...]
    unsold: tuple[str, str] | None = None


def nodes(items: Iterable[Json]) -> list[NodeFacts]:
    """The nodes of a cluster, by name; nodes without a name or UID are left out."""
    found = [facts for item in items if (facts := _node(item)) is not None]
    return sorted(_without_doubles(found), key=lambda facts: facts.name)


def _node(item: object) -> NodeFacts | None:
    whole = _map(item)
    meta, spec, status = (_map(whole.get(part)) for part in ("metadata", "spec", "status"))
    name, uid = clean(meta.get("name") or "", limit=253), clean(meta.get("uid") or "", limit=64)
    if not name or not uid:
        return None
    labels = {k: v for k, v in _map(meta.get("labels")).items() if isinstance(v, str)}
    taints = [_map(taint) for taint in _list(spec.get("taints"))[:64]]
    allocatable, capacity = _map(status.get("allocatable")), _map(status.get("capacity"))
    ready = any(
        _map(c).get("type") == "Ready" and _map(c).get("status") == "True"
        for c in _list(status.get("conditions"))[:64]
    )
    facts = NodeFacts(
        name=name,
        uid=uid,
        ready=ready,
        schedulable=not spec.get("unschedulable") and not any(map(_keeps_off, taints)),
        cpu_milli=int(quantity(allocatable.get("cpu")) * 1000),
        memory_mib=int(quantity(allocatable.get("memory")) / 2**20),
        disk_mib=int(quantity(allocatable.get("ephemeral-storage")) / 2**20),
        shares=(),
        unsold=_not_set_aside(labels, taints),
    )
    return replace(facts, shares=_shares(facts, labels, allocatable, capacity))


def _not_set_aside(labels: Mapping[str, str], taints: list[Json]) -> tuple[str, str] | None:
    """Only what the owner labelled and tainted is sold: we cannot see the owner's own pods."""
    if labels.get(POOL_KEY) != POOL_VALUE:
        return "not_set_aside", f"The node lacks the label {POOL_KEY}={POOL_VALUE}."
    if not any(is_pool_taint(taint) for taint in taints):
        return "not_tainted", f"The node lacks the taint {POOL_KEY}={POOL_VALUE}:NoSchedule."
    return None


def is_pool_taint(taint: Json) -> bool:
    """Whether a taint is the one that sets a node aside for us."""
    return (taint.get("key"), taint.get("value"), taint.get("effect")) == (
        POOL_KEY,
        POOL_VALUE,
        "NoSchedule",
    )


def _keeps_off(taint: Json) -> bool:
    """Whether a taint keeps our pods away; they tolerate the pool's and nothing else."""
    return taint.get("effect") in ("NoSchedule", "NoExecute") and not is_pool_taint(taint)


def _shares(
    node: NodeFacts, labels: Mapping[str, str], allocatable: Json, capacity: Json
) -> tuple[ShareFacts, ...]:
    found: list[tuple[ShareFacts, Model | None]] = []
    for name, family in families().items():
        if count := _devices(capacity.get(name)):
            share = ShareFacts(name, count, min(count, _devices(allocatable.get(name))))
            found.append(_identified(share, family, labels, capacity))
    cards = sum((share.capacity * _of_a_card(model) for share, model in found), Fraction())
    sold = [_shaped(share, model, node, cards) for share, model in found]
    return (*sold, *_shares_alone(allocatable, capacity))


def _identified(
    share: ShareFacts, family: Family, labels: Mapping[str, str], capacity: Json
) -> tuple[ShareFacts, Model | None]:
    """With the model that it counts; without one it is not sold."""
    try:
        family.may_be_sold()
        for other in family.names:
            if other != share.resource and _devices(capacity.get(other)):
                raise Unsold(
                    "advertised_twice",
                    f"The same cards are offered as {share.resource} and {other}: keep one.",
                )
        model = family.identify(labels)
    except Unsold as error:
        return replace(share, unsold=(error.reason, str(error))), None
    known = replace(
        share,
        accelerator=model.slug,
        vendor=family.vendor,
        memory_mib=model.memory_mib,
        driver=family.driver(labels),
        toolkit_max=family.toolkit_max(labels),
        sharing_mode=sharing_mode(model),
    )
    return known, model


def _shares_alone(allocatable: Json, capacity: Json) -> tuple[ShareFacts, ...]:
    """What a node offers of cards under names that count shares of them, and nothing else of
    those cards: so that its owner reads why it is not sold."""
    found: dict[str, ShareFacts] = {}
    for family in families().values():
        if any(_devices(capacity.get(name)) for name in (family.resource, *family.also)):
            continue
        for name in family.aliases:
            if count := _devices(capacity.get(name)):
                sentence = f"{name} counts shares of cards, which have no memory of their own."
                healthy = min(count, _devices(allocatable.get(name)))
                found[name] = ShareFacts(name, count, healthy, unsold=("shared", sentence))
    return tuple(found.values())


def _of_a_card(model: Model | None) -> Fraction:
    """How much of a card one device is at least; what is not known counts as a whole one."""
    return Fraction(1, model.per_card if model else 1)


def _shaped(share: ShareFacts, model: Model | None, node: NodeFacts, cards: Fraction) -> ShareFacts:
    if model is None:
        return share
    try:
        cpu, memory, disk = _per_device(node, cards / _of_a_card(model))
    except Unsold as error:
        # Of no model then: a double of it elsewhere is sold.
        nothing = ShareFacts(share.resource, share.capacity, share.healthy)
        return replace(nothing, unsold=(error.reason, str(error)))
    return replace(share, vcpus_milli=cpu, ram_mib=memory, disk_mib=disk)


def _per_device(node: NodeFacts, devices: Fraction) -> tuple[int, int, int]:
    """What of the machine comes with each of so many devices, rounded down."""
    cpu = _floor((node.cpu_milli - RESERVED_CPU_MILLI) / devices, CPU_STEP_MILLI)
    memory = _floor((node.memory_mib - RESERVED_MEMORY_MIB) / devices, MEMORY_STEP_MIB)
    disk = _floor(node.disk_mib * DISK_SHARE / float(devices), DISK_STEP_MIB)
    if cpu <= 0 or memory <= 0 or disk <= 0:
        raise Unsold(
            "too_small", "The node has too little processor, memory or disk for its cards."
        )
    return cpu, memory, disk


def _without_doubles(found: list[NodeFacts]) -> list[NodeFacts]:
    """A model under two resource names in one cluster would be sold twice: neither is sold."""
    names: dict[str, set[str]] = {}
    for node in found:
        for share in node.shares:
            if share.accelerator:
                names.setdefault(share.accelerator, set()).add(share.resource)
    doubled = {slug: both for slug, both in names.items() if len(both) > 1}
    return [
        replace(node, shares=tuple(_refused_if_doubled(s, doubled) for s in node.shares))
        for node in found
    ]


def _refused_if_doubled(share: ShareFacts, doubled: dict[str, set[str]]) -> ShareFacts:
    both = doubled.get(share.accelerator)
    if both is None:
        return share
    named = " and ".join(sorted(both))
    return replace(
        share,
        unsold=("advertised_twice", f"This model is offered as {named} in one cluster: keep one."),
    )


def _floor(value: float | Fraction, step: int) -> int:
    return int(value // step) * step


def _devices(value: object) -> int:
    return min(MAX_DEVICES, int(quantity(value))) if value is not None else 0


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
