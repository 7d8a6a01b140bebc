"""What the network policies of a namespace open, as they are stored there. PURE.

Answers are hostile: a field of an unexpected type reads as missing, and what is not understood
counts as open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from provisioner.kube.manifests import EGRESS_LABEL

Json = dict[str, Any]
# What "web" may use besides names.
_WEB: Final = frozenset({53, 80, 443})


def is_closed(policies: Iterable[Json]) -> bool:
    """Whether one of them selects every pod and opens nothing, in or out."""
    return any(map(_closes_all, policies))


def is_graded(policies: Iterable[Json]) -> bool:
    """Whether pods whose offer gives them less of the network get less: by the web alone, or not
    at all."""
    opening = [spec for policy in policies if (spec := _map(policy.get("spec"))).get("egress")]
    none, web = ({EGRESS_LABEL: kind} for kind in ("none", "web"))
    if any(_selects(spec, none) for spec in opening):
        return False
    theirs = [spec for spec in opening if _selects(spec, web)]
    ports = [port for spec in theirs for port in _ports(spec)]
    return bool(theirs) and all(port in _WEB for port in ports)


def _closes_all(policy: Json) -> bool:
    spec = _map(policy.get("spec"))
    selector = spec.get("podSelector")
    return (
        isinstance(selector, dict)
        and not any(selector.values())
        and {"Ingress", "Egress"} <= {str(kind) for kind in _list(spec.get("policyTypes"))}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _ports(spec: Json) -> list[object]:
    """Every port that its rules open; a rule without ports, or with a range, opens all."""
    found: list[object] = []
    for rule in map(_map, _list(spec.get("egress"))):
        ports = [_map(port) for port in _list(rule.get("ports"))]
        found += [None if "endPort" in port else port.get("port") for port in ports] or [None]
    return found


def _selects(spec: Json, labels: Mapping[str, str]) -> bool:
    """Whether a policy selects a pod with these labels, as far as they decide it."""
    selector = _map(spec.get("podSelector"))
    wanted = _map(selector.get("matchLabels"))
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_meets(_map(each), labels) for each in _list(selector.get("matchExpressions")))


def _meets(expression: Json, labels: Mapping[str, str]) -> bool:
    value = labels.get(str(expression.get("key")))
    values = _list(expression.get("values"))
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return True  # an operator that we do not know: as if it selected


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
