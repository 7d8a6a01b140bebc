"""Billing's door to what use cost: rows for exports, totals for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

from billing.contracts.usage import CostKey, CostRow, CostTotal, ShareIf, UsedMeter, UseTotal
from billing.ledger import costs as _costs
from billing.metering import totals as _totals


def cost_pages(*, org_ref: UUID, from_at: datetime, to_at: datetime) -> Iterator[list[CostRow]]:
    """All that the organization's use cost in [from_at, to_at), page by page, without a lock or a
    long transaction. Use counts by when it began, all else by when it was posted."""
    return _costs.pages(org_ref=org_ref, from_at=from_at, to_at=to_at)


def cost_totals(
    *, org_ref: UUID, from_at: datetime, to_at: datetime, by: CostKey
) -> list[CostTotal]:
    """The same rows summed; one query."""
    return _costs.totals(org_ref=org_ref, from_at=from_at, to_at=to_at, by=by)


def use_by_owner(*, from_at: datetime, to_at: datetime) -> list[UseTotal]:
    """What cards brought in [from_at, to_at), per owner and card type; one query."""
    return _totals.by_owner(from_at=from_at, to_at=to_at)


def shares_if(
    *, from_at: datetime, to_at: datetime, rate: Callable[[UsedMeter], int | None]
) -> list[ShareIf]:
    """What owners had earned from the use of [from_at, to_at) at another rate; one query, nothing
    is stored. rate: the owner's share per hour of a meter, None to leave the meter out."""
    return _totals.shares_if(from_at=from_at, to_at=to_at, rate=rate)
