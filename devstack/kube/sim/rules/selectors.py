"""Label and field selectors, in the query's own text. Raises StatusError for nonsense."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from devstack.kube.sim.errors import bad_request
from devstack.kube.sim.kinds import EVENTS, PODS, SECRETS, Kind

Json = dict[str, Any]
Selector = Callable[[Json], bool]

_LABEL = r"[A-Za-z0-9./_-]+"
_SET = re.compile(rf"^({_LABEL})\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_LABEL})\s*(==|=|!=)\s*([A-Za-z0-9._-]*)$")
_EXISTS = re.compile(rf"^(!?)\s*({_LABEL})$")

# Beyond metadata.name and metadata.namespace; everything else is refused, as on a real server.
_FIELDS: Mapping[Kind, frozenset[str]] = {
    PODS: frozenset(
        {
            *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName"),
            *("spec.serviceAccountName", "status.phase", "status.podIP"),
        }
    ),
    EVENTS: frozenset(
        {
            *("involvedObject.kind", "involvedObject.namespace", "involvedObject.name"),
            *("involvedObject.uid", "involvedObject.resourceVersion", "reason", "source", "type"),
        }
    ),
    SECRETS: frozenset({"type"}),
}
_ALWAYS = frozenset({"metadata.name", "metadata.namespace"})


def selector_of(kind: Kind, query: Mapping[str, str]) -> Selector | None:
    """What `labelSelector` and `fieldSelector` of a request let through; None for everything."""
    tests = [_label_test(part) for part in _split(query.get("labelSelector", ""))]
    tests += [_field_test(kind, part) for part in _split(query.get("fieldSelector", ""))]
    if not tests:
        return None
    return lambda body: all(test(body) for test in tests)


def matches_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A LabelSelector object's matchLabels; expressions are not simulated."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(part: str) -> Selector:
    def labels(body: Json) -> Mapping[str, str]:
        return body["metadata"].get("labels") or {}

    if found := _SET.match(part):
        key, verb, values = found[1], found[2], {v.strip() for v in found[3].split(",")}
        if verb == "in":
            return lambda body: labels(body).get(key) in values
        return lambda body: labels(body).get(key) not in values
    if found := _EQUAL.match(part):
        key, operator, value = found[1], found[2], found[3]
        if operator == "!=":
            return lambda body: labels(body).get(key) != value
        return lambda body: labels(body).get(key) == value
    if found := _EXISTS.match(part):
        negated, key = bool(found[1]), found[2]
        return lambda body: (key in labels(body)) != negated
    raise bad_request(f"unable to parse requirement: {part!r}")


def _field_test(kind: Kind, part: str) -> Selector:
    found = re.match(r"^([A-Za-z.]+)(==|!=|=)(.*)$", part)
    if not found:
        raise bad_request(f"invalid field selector: {part!r}")
    field, operator, value = found[1], found[2], found[3]
    if field not in _FIELDS.get(kind, frozenset()) | _ALWAYS:
        raise bad_request(f'field label not supported: "{field}"')
    path = field.split(".")

    def test(body: Json) -> bool:
        here: Any = body
        for key in path:
            here = here.get(key) if isinstance(here, dict) else None
        return (str(here or "") == value) == (operator != "!=")

    return test
