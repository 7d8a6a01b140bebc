"""Which rights our token needs and which make it too strong, and how roles are read. PURE.

The lists are data (rights.toml). Rules are read as Kubernetes itself matches them; what a cluster
says is hostile, so a rule of an unexpected shape allows nothing here, and the server is asked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_FILE = Path(__file__).with_name("rights.toml")
CLUSTER, POOL, SYSTEM = "cluster", "pool", "gpuyard-system"
# Where a right of a namespace is asked for beside the pool: the most harmful places, and ours.
OUTSIDE = ("kube-system", "default", SYSTEM)


@dataclass(frozen=True)
class Right:
    """One verb on one resource. ``resource`` includes the subresource."""

    verb: str
    resource: str
    group: str = ""
    name: str = ""  # of the object; "" all


@dataclass(frozen=True)
class Held:
    """A right in one place: a namespace, or "" for the whole cluster."""

    right: Right
    where: str


@dataclass(frozen=True)
class Needed:
    """A right that the bundle gives. ``where`` as in the file's head."""

    right: Right
    where: str


@dataclass(frozen=True)
class Refused:
    """A right that a token must not have, but in the places that ``own`` names."""

    right: Right
    namespaced: bool
    own: tuple[tuple[str, tuple[str, ...]], ...]
    why: str

    def is_own(self, where: str, pool: Sequence[str], names: Sequence[str]) -> bool:
        """Whether the bundle gives it there, for these objects only."""
        for place, given in self.own:
            here = where in pool if place == POOL else where == place
            if here and (not given or (names and set(names) <= set(given))):
                return True
        return False


@cache
def needed() -> tuple[Needed, ...]:
    return tuple(
        Needed(Right(verb, resource, row["group"], name), row["where"])
        for row in _file()["needed"]
        for resource in row["resources"]
        for verb in row["verbs"]
        for name in row.get("names", [""])
    )


@cache
def refused() -> tuple[Refused, ...]:
    return tuple(
        Refused(
            Right(verb, resource, row["group"]),
            row["scope"] == "namespaced",
            tuple((each["where"], tuple(each["names"])) for each in row.get("own", [])),
            row["why"],
        )
        for row in _file()["refused"]
        for resource in row["resources"]
        for verb in row["verbs"]
    )


EVERYTHING = Right("*", "*", "*")


def gives(rules: Iterable[Json], right: Right) -> bool:
    """Whether one of the rules allows ``right`` (of one object if it names one)."""
    for rule in rules:
        names = _words(rule.get("resourceNames"))
        if _covers(rule, right) and (not names or right.name in names):
            return True
    return False


def too_much(rules: Sequence[Json], where: str, pool: Sequence[str]) -> list[Held]:
    """Which refused rights the rules of one namespace allow there; a name on it when the rule
    allows it for some objects only."""
    found = []
    for entry in refused():
        for rule in rules:
            names = _words(rule.get("resourceNames"))
            if _covers(rule, entry.right) and not entry.is_own(where, pool, names):
                found.append(Held(replace(entry.right, name=names[0] if names else ""), where))
                break
    return found


def widest(found: Iterable[Held]) -> tuple[Held, ...]:
    """Each right once per place, in the table's order; what holds in the whole cluster is not
    repeated for its namespaces, and what allows everything is said alone."""
    unique = list(dict.fromkeys(found))
    if any(each.right == EVERYTHING and not each.where for each in unique):
        return (Held(EVERYTHING, ""),)
    wide = {(each.right.verb, each.right.resource) for each in unique if not each.where}
    order = {(e.right.verb, e.right.resource): n for n, e in enumerate(refused())}
    kept = [
        each
        for each in unique
        if not each.where or (each.right.verb, each.right.resource) not in wide
    ]
    return tuple(
        sorted(kept, key=lambda e: (order.get((e.right.verb, e.right.resource), 0), e.where))
    )


def listed(found: Sequence[Held]) -> str:
    """As people read it: ``get, list on secrets in kube-system``."""
    verbs: dict[tuple[str, str], list[str]] = {}
    places: dict[tuple[str, str], list[str]] = {}
    for each in found:
        places.setdefault((each.right.resource, each.right.verb), []).append(each.where)
    for (resource, verb), where in places.items():
        verbs.setdefault((resource, _placed(where)), []).append(verb)
    return "; ".join(
        f"{', '.join(names)} on {what}{where}" for (what, where), names in verbs.items()
    )


def _placed(where: Sequence[str]) -> str:
    if "" in where:
        return " in the whole cluster"
    if len(where) > 4:
        return f" in {where[0]} and {len(where) - 1} other namespaces"
    return f" in {', '.join(where)}"


def _covers(rule: Mapping[str, Any], right: Right) -> bool:
    """As Kubernetes matches: "*" is all, "*/log" the part of every resource."""
    _, _, part = right.resource.partition("/")
    resources = _words(rule.get("resources"))
    return (
        _holds(_words(rule.get("verbs")), right.verb)
        and _holds(_words(rule.get("apiGroups")), right.group)
        and (_holds(resources, right.resource) or (bool(part) and f"*/{part}" in resources))
    )


def _holds(values: Sequence[str], wanted: str) -> bool:
    return wanted in values or "*" in values


def _words(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _file() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text())
