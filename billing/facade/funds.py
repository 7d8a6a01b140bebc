"""Billing's door to what keeps money from running out or away: trust, forecasts, spending."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from billing.contracts.spending import SpendView
from billing.metering import runway as _runway
from billing.metering import spending as _spending
from billing.payments import settled as _settled

K = TypeVar("K")


def settled_since(
    *, org_refs: Collection[UUID], amounts: Collection[int]
) -> dict[UUID, dict[int, datetime]]:
    """By organization, and by amount (micro-units) where it is reached: since when at least so
    much of its payments is settled, less what went back. One query."""
    return _settled.settled_since(org_refs=org_refs, amounts=amounts)


def ends() -> dict[UUID, datetime]:
    """By organization that uses up money: when it has none left at its present burn. One query."""
    return _runway.ends()


def spendable(*, org_refs: Collection[UUID]) -> dict[UUID, int]:
    """What each organization may still spend, above its floor. One query."""
    return _runway.spendable(org_refs=org_refs)


def spent(groups: Mapping[K, Collection[UUID]], *, since: datetime) -> dict[K, SpendView]:
    """By group of rentals: charged, running and held since ``since``, a full hour. One query."""
    return _spending.spent(groups, since=since)
