"""The closed list of event types, and how an endpoint says which of them it wants. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

# Which types there are, and what each tells. A rental's are its states (rentals/state.py; a test
# holds the two together: this room lies below that one and cannot import it).
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "rental": (
        "requested",
        "queued",
        "provisioning",
        "pulling",
        "starting",
        "running",
        "degraded",
        "unreachable",
        "interrupting",
        "stopping",
        "stopped",
        "migrating",
        "failed",
        "terminating",
        "terminated",
    ),
    "notice": ("maintenance", "funds", "idle", "end_date", "interruption"),
    "balance": ("low", "empty"),
    "topup": ("succeeded", "failed", "canceled"),
    "invoice": ("open", "paid", "void", "uncollectible"),
}
TYPES: Final = frozenset(f"{family}.{name}" for family, names in FAMILIES.items() for name in names)
# Only asked for by POST /webhooks/{id}/test, and sent to that endpoint whatever it wants.
TEST: Final = "webhook.test"
# What an endpoint may ask for: single types, whole families, or everything.
PATTERNS: Final = frozenset({"*", *(f"{family}.*" for family in FAMILIES), *TYPES})


def patterns_for(type: str) -> list[str]:
    """The patterns that ask for ``type``; raises ValueError for a type that is not in the list."""
    if type not in TYPES:
        raise ValueError(f"{type!r} is no event type: add it to FAMILIES")
    return ["*", f"{type.partition('.')[0]}.*", type]


def problems_of(patterns: Iterable[str]) -> list[str]:
    """What is wrong with a list of patterns, a sentence each; empty when nothing is."""
    wanted = list(patterns)
    if not wanted:
        return ['at least one type, such as "rental.*"']
    return [_unknown(name) for name in wanted if name not in PATTERNS]


def canonical(patterns: Iterable[str]) -> list[str]:
    """The patterns sorted, without those that a wider one holds already."""
    wanted = set(patterns)
    if "*" in wanted:
        return ["*"]
    return sorted(
        name for name in wanted if name.endswith(".*") or f"{_family(name)}.*" not in wanted
    )


def _family(name: str) -> str:
    return name.partition(".")[0]


def _unknown(name: str) -> str:
    near: Sequence[str] = difflib.get_close_matches(name, sorted(PATTERNS), n=1, cutoff=0.6)
    hint = f' did you mean "{near[0]}"?' if near else f" families: {', '.join(FAMILIES)}"
    return f'there is no event type "{name[:40]}";{hint}'
