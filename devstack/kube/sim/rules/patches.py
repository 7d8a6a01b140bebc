"""Merge patches of two kinds, and copies. Pure; never changes what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devstack.kube.sim.errors import bad_request, not_simulated

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

# Lists that a strategic merge joins by a key of their items; all others are replaced whole.
_MERGE_KEYS: Mapping[str, str] = {
    "conditions": "type",
    "addresses": "type",
    "podIPs": "ip",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "ownerReferences": "uid",
    "imagePullSecrets": "name",
}


def copied(value: Any) -> Any:
    """A deep copy of JSON values."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def patched(body: Json, patch: Json, content_type: str) -> Json:
    """`body` with the patch applied. Raises StatusError for a kind that is not simulated."""
    if content_type in {MERGE, APPLY}:
        return merged(body, patch)
    if content_type == STRATEGIC:
        return _strategic(body, patch)
    if content_type == "application/json-patch+json":
        raise not_simulated("JSON patches")
    raise bad_request(f"the body of a patch cannot be {content_type}")


def merged(body: Json, patch: Json) -> Json:
    """RFC 7396: null deletes, objects merge, everything else replaces."""
    result = dict(body)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = copied(value)
    return result


def _strategic(body: Json, patch: Json) -> Json:
    result = dict(body)
    for key, value in patch.items():
        if key.startswith("$"):
            raise not_simulated(f"the directive {key} in strategic merge patches")
        before = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _strategic(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list) and isinstance(before, list) and key in _MERGE_KEYS:
            result[key] = _joined(before, value, _MERGE_KEYS[key])
        else:
            result[key] = _without_nulls(value)
    return result


def _joined(before: list[Any], patch: list[Any], key: str) -> list[Any]:
    changes = {item[key]: item for item in patch}
    known = {item[key] for item in before}
    kept = [_strategic(item, changes.get(item[key], {})) for item in before]
    return kept + [_without_nulls(item) for item in patch if item[key] not in known]


def _without_nulls(value: Any) -> Any:
    """A new part has no fields for null to delete."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
