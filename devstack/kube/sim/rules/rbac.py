"""Who may do what, from the roles and bindings that are stored: the bundle's own. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
# What every account has on a real server: to ask about its own rights.
_ABOUT_ITSELF: Json = {
    "verbs": ["create"],
    "apiGroups": ["authorization.k8s.io"],
    "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
}
# What anybody may ask, with or without a token.
PUBLIC_PATHS = frozenset({"/version", "/version/", "/healthz", "/readyz", "/livez"})


@dataclasses.dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclasses.dataclass(frozen=True)
class Attributes:
    """What is asked for. `resource` includes the subresource, as roles name it."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Roles:
    """How the rules are read; each returns bodies, or None for a role that is not there."""

    bindings: Callable[[str], Iterable[Json]]  # of a namespace
    cluster_bindings: Callable[[], Iterable[Json]]
    role: Callable[[str, str], Json | None]  # namespace, name
    cluster_role: Callable[[str], Json | None]


def allowed(user: User, asked: Attributes, roles: Roles) -> bool:
    """Whether one rule of one role that is bound to the user allows it."""
    if MASTERS in user.groups:
        return True
    if asked.group == "authorization.k8s.io" and asked.verb == "create":
        return AUTHENTICATED in user.groups
    return any(_fits(rule, asked) for rule in _rules(user, asked.namespace, roles))


def rules_of(user: User, namespace: str, roles: Roles) -> list[Json]:
    """What a server tells an account of its own rights in a namespace."""
    if MASTERS in user.groups:
        return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    return [_ABOUT_ITSELF, *(dict(rule) for rule in _rules(user, namespace, roles))]


def refusal(user: User, asked: Attributes) -> str:
    """Why it is forbidden, in the server's words; clients look for ` cannot `."""
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {asked.verb} resource "{asked.resource}" '
        f'in API group "{asked.group}" {where}'
    )


def _rules(user: User, namespace: str, roles: Roles) -> Iterator[Json]:
    for binding in roles.cluster_bindings():
        if _bound(binding, user):
            yield from _rules_of(roles.cluster_role(binding["roleRef"]["name"]))
    if not namespace:
        return
    for binding in roles.bindings(namespace):
        if _bound(binding, user):
            reference = binding["roleRef"]
            if reference["kind"] == "ClusterRole":
                yield from _rules_of(roles.cluster_role(reference["name"]))
            else:
                yield from _rules_of(roles.role(namespace, reference["name"]))


def _rules_of(role: Json | None) -> list[Json]:
    return (role or {}).get("rules") or []


def _bound(binding: Json, user: User) -> bool:
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            name = f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
        if name in user.groups if kind == "Group" else name == user.name:
            return True
    return False


def _fits(rule: Mapping[str, Any], asked: Attributes) -> bool:
    names = rule.get("resourceNames") or []
    return (
        _holds(rule.get("verbs"), asked.verb)
        and _holds(rule.get("apiGroups"), asked.group)
        and _holds(rule.get("resources"), asked.resource)
        and (not names or asked.name in names)
    )


def _holds(values: Any, wanted: str) -> bool:
    return bool(values) and (wanted in values or "*" in values)
