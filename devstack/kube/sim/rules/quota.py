"""How much of a ResourceQuota a namespace uses, and what would exceed it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devstack.kube.sim.errors import StatusError, forbidden

Json = dict[str, Any]

_FINISHED = frozenset({"Succeeded", "Failed"})


def charged(key: str, body: Json) -> dict[str, int]:
    """Quota names that one object of the kind `key` counts for."""
    found = {f"count/{key}": 1}
    if key == "pods" and body.get("status", {}).get("phase") not in _FINISHED:
        found["pods"] = 1
    elif key in {"persistentvolumeclaims", "secrets", "services", "configmaps"}:
        found[key] = 1
        kind = body.get("spec", {}).get("type")
        if key == "services" and kind in {"LoadBalancer", "NodePort"}:
            found["services.nodeports"] = 1
        if key == "services" and kind == "LoadBalancer":
            found["services.loadbalancers"] = 1
    return found


def exceeded(
    quota: Json, resource: str, name: str, asked: Mapping[str, int], used: Mapping[str, int]
) -> StatusError | None:
    """The refusal when `asked` does not fit on top of `used`, else None."""
    hard = {key: int(value) for key, value in quota["spec"].get("hard", {}).items()}
    over = sorted(
        key for key, count in asked.items() if key in hard and used.get(key, 0) + count > hard[key]
    )
    if not over:
        return None

    def shown(values: Mapping[str, int]) -> str:
        return ",".join(f"{key}={values.get(key, 0)}" for key in over)

    why = (
        f"exceeded quota: {quota['metadata']['name']}, requested: {shown(asked)}, "
        f"used: {shown(used)}, limited: {shown(hard)}"
    )
    return forbidden(resource, name, why)
