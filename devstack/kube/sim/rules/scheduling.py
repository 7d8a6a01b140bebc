"""Where a pod fits: devices and other resources, required node affinity, selectors, taints. Pure.

The message of a pod that fits nowhere is the real scheduler's, because clients read it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from devstack.kube.sim.rules.quantities import milli

Json = dict[str, Any]

_HOLDS_BACK = frozenset({"NoSchedule", "NoExecute"})
_AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclasses.dataclass(frozen=True)
class Seat:
    """A node as the scheduler sees it: amounts in thousandths, `used` by the pods bound to it."""

    name: str
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    unschedulable: bool
    allocatable: Mapping[str, int]
    used: Mapping[str, int]
    pods: int


@dataclasses.dataclass(frozen=True)
class Decision:
    """A node, or nobody and the scheduler's sentence about it."""

    node: str | None
    message: str = ""


def seat_of(node: Json, used: Mapping[str, int], pods: int) -> Seat:
    return Seat(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        taints=node.get("spec", {}).get("taints") or [],
        unschedulable=bool(node.get("spec", {}).get("unschedulable")),
        allocatable={
            key: milli(value)
            for key, value in node.get("status", {}).get("allocatable", {}).items()
        },
        used=used,
        pods=pods,
    )


def place(
    spec: Json,
    asked: Mapping[str, int],
    seats: Sequence[Seat],
    reach: Sequence[Sequence[Json]] = (),
) -> Decision:
    """The fitting node with the most room, by name where they are equal. `reach`: for each of the
    pod's volumes the node selector terms of where it can be mounted."""
    reasons: Counter[str] = Counter()
    fitting: list[Seat] = []
    for seat in seats:
        refused = _refusals(spec, asked, seat, reach)
        if refused:
            reasons.update(refused)
        else:
            fitting.append(seat)
    if fitting:
        return Decision(min(fitting, key=lambda seat: (_fullness(seat), seat.name)).name)
    if not seats:
        return Decision(None, "no nodes available to schedule pods")
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return Decision(None, f"0/{len(seats)} nodes are available: {listed}.")


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, str]) -> bool:
    return any(_fits_taint(toleration, taint) for toleration in tolerations)


def _fits_taint(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("key") not in {None, "", taint["key"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def bears_for(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, str]) -> float | None:
    """Seconds a running pod stays under a NoExecute taint: 0 to go at once, None for ever."""
    fitting = [each for each in tolerations if _fits_taint(each, taint)]
    if not fitting:
        return 0.0
    limits = [each["tolerationSeconds"] for each in fitting if "tolerationSeconds" in each]
    return float(max(0, min(limits))) if limits else None


def _refusals(
    spec: Json, asked: Mapping[str, int], seat: Seat, reach: Sequence[Sequence[Json]]
) -> list[str]:
    """Why not here; the first group of reasons that applies, as the real filters run."""
    tolerations = spec.get("tolerations") or []
    if seat.unschedulable:
        return ["node(s) were unschedulable"]
    for taint in seat.taints:
        if taint["effect"] in _HOLDS_BACK and not tolerates(tolerations, taint):
            shown = f"{{{taint['key']}: {taint.get('value', '')}}}"
            return [f"node(s) had taint {shown}, that the pod didn't tolerate"]
    if not _matches(spec, seat):
        return ["node(s) didn't match Pod's node affinity"]
    if not all(any(_term(term, seat) for term in terms) for terms in reach):
        return ["node(s) had volume node affinity conflict"]
    short = [
        f"Insufficient {key}"
        for key, amount in asked.items()
        if amount > seat.allocatable.get(key, 0) - seat.used.get(key, 0)
    ]
    if seat.pods + 1 > seat.allocatable.get("pods", 0) // 1000:
        short.append("Too many pods")
    return short


def _matches(spec: Json, seat: Seat) -> bool:
    selector = spec.get("nodeSelector") or {}
    if any(seat.labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get(_AFFINITY)
    if required is None:
        return True
    return any(_term(term, seat) for term in required.get("nodeSelectorTerms") or [])


def _term(term: Mapping[str, Any], seat: Seat) -> bool:
    fields = term.get("matchFields") or []
    expressions = term.get("matchExpressions") or []
    if not fields and not expressions:
        return False
    named = {"metadata.name": seat.name}
    return all(_expression(each, named) for each in fields) and all(
        _expression(each, seat.labels) for each in expressions
    )


def _expression(wanted: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(wanted["key"]), wanted.get("values") or []
    operator = wanted["operator"]
    if operator in {"Gt", "Lt"}:
        if value is None or not value.lstrip("-").isdigit():
            return False
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[operator]


def _fullness(seat: Seat) -> float:
    """Share of the scarcest resource that is taken."""
    shares = [
        used / seat.allocatable[key] for key, used in seat.used.items() if seat.allocatable.get(key)
    ]
    return max(shares, default=0.0)
