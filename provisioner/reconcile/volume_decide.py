"""From what a volume's claim shows to what happens next. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from provisioner.contracts import VolumeState
from provisioner.kube.claims import ClaimFacts

S = VolumeState


@dataclass(frozen=True)
class Known:
    """The volume's row as decisions need it."""

    state: VolumeState
    reason: str
    size_gib: int
    bound_gib: int | None
    waits: bool  # its class binds at the first use only
    attached: bool


@dataclass(frozen=True)
class Go:
    """A move, or a new reason in the same state. ``changes``: further columns."""

    to: VolumeState
    reason: str
    changes: dict[str, Any] = field(default_factory=dict)


def present(known: Known, claim: ClaimFacts, at: datetime) -> Go | None:
    """What a claim's present condition means; None when it is known already."""
    if known.state in (S.DELETING, S.DELETED, S.LOST):
        return None
    if claim.phase == "Lost":
        return Go(S.LOST, "lost", {"lost_at": at})
    if claim.phase != "Bound":
        return _unbound(known)
    return _bound(known, claim.capacity_gib, at)


def absent(known: Known, at: datetime) -> Go | None:
    """The claim existed and does not any more, and we did not ask for that."""
    if known.state in (S.DELETING, S.DELETED, S.LOST):
        return None
    return Go(S.LOST, "vanished", {"lost_at": at})


def _unbound(known: Known) -> Go | None:
    """Many classes bind at the first use; until then "creating" would be a promise nobody keeps,
    so the reason says what it waits for."""
    if known.state != S.CREATING:
        return None  # a claim that was bound shows up again as Bound or Lost
    reason = "waits_for_use" if known.waits and not known.attached else "binding"
    return None if known.reason == reason else Go(S.CREATING, reason)


def _bound(known: Known, capacity: int | None, at: datetime) -> Go | None:
    to, reason = (S.ATTACHED, "attached") if known.attached else (S.AVAILABLE, "available")
    shown = known.bound_gib if capacity is None else capacity
    if known.state == S.CREATING:
        # A server that shows no capacity gave at least what was asked for.
        return Go(to, reason, {"bound_at": at, "bound_gib": shown or known.size_gib})
    if known.state == S.RESIZING:
        if shown is None or shown < known.size_gib:
            return None
        return Go(to, "resized", {"bound_gib": shown})
    if shown != known.bound_gib:
        return Go(to, "resized", {"bound_gib": shown})
    return None if known.state == to else Go(to, reason)
