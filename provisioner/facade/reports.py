"""The door to what machines tell of themselves: reports in, series and quiet machines out.

Nothing that goes in here moves an instance, an interval or money.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from provisioner.contracts.reports import InstanceReport, Quiet, Reporting, Series
from provisioner.instances import reports as _reports
from provisioner.instances import samples as _samples


def reporting(*, token: str) -> Reporting | None:
    """Who may report with this token; None for anything but the token of a present instance."""
    return _reports.reporting(token)


def take(*, reporting: Reporting, report: InstanceReport) -> float:
    """Store a report: 0.0, or the seconds to wait where it comes too early and is not stored.

    Raises InvalidRequest for more cards than the instance has.
    """
    return _reports.take(reporting, report)


def quiet(*, rental_refs: Sequence[UUID]) -> dict[UUID, Quiet]:
    """Those of these rentals whose every card is reported to do nothing: from when to when. A
    machine that has not reported for a minute is never among them. One statement."""
    return _reports.quiet(rental_refs)


def series(*, rental_ref: UUID, since: datetime, until: datetime, step: int | None) -> Series:
    """What a rental's machines reported, at even steps: at least ``step`` seconds, what is kept of
    that time, and what keeps the answer in bounds."""
    return _samples.series(rental_ref=rental_ref, since=since, until=until, step=step)
