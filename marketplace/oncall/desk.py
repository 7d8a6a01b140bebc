"""What waits for a person, as queues: how many, and since when the oldest does.

One query for each queue. A queue is empty when there is nothing to do about it: what only tells
(counts of failed cards, things that are gone by themselves) is on its own page and in none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, Min, QuerySet

from billing.facade import waiting as billing
from marketplace.accounts.access import STAFF, Principal
from marketplace.models import AbuseReport, Organization, ProblemReport, Provider
from marketplace.oncall.alarms import Level, Reading, judge
from marketplace.oncall.vitals import everything
from provisioner.facade import desk as provisioner

Waiting = tuple[int, datetime | None]


@dataclass(frozen=True)
class Queue:
    """One queue. oldest: since when the first of them waits; None for an empty one."""

    name: str
    url: str
    count: int
    oldest: datetime | None


def queues(acting: Principal) -> list[Queue]:
    """Every queue, in the order in which to look at them: machines, then people, then money."""
    acting.require(STAFF)
    return [Queue(name, url, *ask()) for name, url, ask in _QUEUES]


def ringing(acting: Principal) -> list[Reading]:
    """Alarms that are not at rest, the worst first."""
    acting.require(STAFF)
    found = [reading for reading in judge(everything()) if reading.level is not Level.OK]
    return sorted(found, key=lambda reading: reading.level is not Level.PAGE)


def _oldest(rows: QuerySet[Any], since: str = "created_at") -> Waiting:
    found = rows.aggregate(count=Count("id"), oldest=Min(since))
    return found["count"], found["oldest"]


def _providers() -> Waiting:
    return _oldest(Provider.objects.filter(state=Provider.State.APPLIED))


def _frozen() -> Waiting:
    rows = Organization.objects.filter(state=Organization.State.FROZEN)
    return _oldest(rows, "frozen_at")


def _abuse() -> Waiting:
    return _oldest(AbuseReport.objects.filter(state=AbuseReport.State.OPEN))


def _reports() -> Waiting:
    return _oldest(ProblemReport.objects.filter(state=ProblemReport.State.OPEN))


_QUEUES: Final[tuple[tuple[str, str, Callable[[], Waiting]], ...]] = (
    ("brakes", "/staff/brakes", provisioner.brakes),
    ("preflights", "/staff/preflights", provisioner.failed_preflights),
    ("unknown", "/staff/unknown", provisioner.unknown),
    ("unknown_objects", "/staff/unknown#stripe", billing.unknown_objects),
    ("reports", "/staff/reports", _reports),
    ("abuse", "/staff/abuse", _abuse),
    ("providers", "/staff/providers", _providers),
    ("frozen", "/staff/fraud?state=frozen", _frozen),
    ("disputes", "/staff/disputes", billing.disputes),
    ("orders", "/staff/returns", billing.orders),
    ("reviews", "/staff/payouts", billing.reviews),
    ("breaks", "/staff/books", billing.breaks),
)
