"""A cluster's preflight as other areas see it: the published rules and how they came out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """How a rule came out. ``unknown``: it could not be asked, which opens and closes nothing."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class PreflightState(StrEnum):
    """How the whole stands.

    ``waiting``: not looked at yet, or not since the token was replaced; ``unanswered``: nothing
    failed, but a rule that matters was not answered, so the last verdict before it holds.
    """

    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class RuleView:
    """A rule of the published table."""

    slug: str
    title: str
    why: str
    threshold: str
    stops: bool  # failing it takes a cluster off sale
    fix: str  # "{measured}" stands for what was found


@dataclass(frozen=True)
class RuleTable:
    version: int
    rules: tuple[RuleView, ...]


@dataclass(frozen=True)
class RuleResult:
    """A rule and how it came out; ``outcome`` None: never asked in this cluster."""

    rule: str
    title: str
    why: str
    version: int
    stops: bool
    measured: str
    threshold: str
    outcome: Outcome | None
    fix: str  # "" where there is nothing to do
    since: datetime | None
    checked_at: datetime | None


@dataclass(frozen=True)
class RuleChange:
    """When a rule came out differently than before; ``before`` None: the first look."""

    rule: str
    version: int
    before: Outcome | None
    outcome: Outcome
    measured: str
    at: datetime


@dataclass(frozen=True)
class PreflightView:
    """``sells``: whether the cluster takes new rentals as far as preflight decides; ``looking``: a
    look is under way or due, so that other results may come at any moment."""

    state: PreflightState
    sells: bool
    version: int
    checked_at: datetime | None
    rules: tuple[RuleResult, ...]
    changes: tuple[RuleChange, ...]  # newest first
    looking: bool = False
