"""How long each rental's pod may live without us: worked out here, carried out by the provisioner.

Only the marketplace knows dates, money and options. Every minute it works out the wish for every
live rental, set by set, and hands it down; a lease object in the cluster then holds until that
time, whatever becomes of us. Limit: an organization's rentals are one set, because they share one
balance, so the largest organization decides how large a set may get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

from billing import facade as billing
from kernel.clock import now
from kernel.turns import each
from marketplace.models import Rental
from marketplace.rentals import state as states
from provisioner import facade as provisioner

# A day of ours away ends no paid rental: leases are renewed half an hour after they began at the
# latest, so 26 hours leave that day with room. Post-paid customers are owed a weekend.
PREPAID: Final = timedelta(hours=26)
POST_PAID: Final = timedelta(hours=72)
# With failover another machine starts once this one's lease ran out: nobody waits a day for that.
FAILOVER: Final = timedelta(minutes=10)
# Past its date, or its money, a rental is ended by us, with a word to the renter. A reaper that
# came first would look like a host that lost the machine. It is there for when we are not.
MARGIN: Final = timedelta(minutes=2)

# Rentals of one call to the doors: some tenths of a second, in which their rows are not locked.
_SET: Final = 500
# Cards are held, nobody asked for the end.
_LIVE: Final = states.HOLDS_CARDS - {states.STOPPING, states.TERMINATING}


@dataclass(frozen=True)
class _Live:
    """What a lease is made of."""

    id: UUID
    organization: UUID
    expires_at: datetime | None
    failover: bool


def lease_length(*, post_paid: bool, failover: bool) -> timedelta:
    """How long a lease is when neither date nor money end it earlier. Pure."""
    if failover:
        return FAILOVER
    return POST_PAID if post_paid else PREPAID


def lease_until(
    *,
    at: datetime,
    length: timedelta,
    expires_at: datetime | None,
    funds_end_at: datetime | None,
) -> datetime:
    """Until when a pod may live without us: its length, its date and its money. Pure."""
    ends = [end + MARGIN for end in (expires_at, funds_end_at) if end is not None]
    return min([at + length, *ends])


def push() -> int:
    """Hand down the wish of every live rental; how many changed."""
    return sum(each("lease", _sets(), _push))


def _push(rentals: list[_Live]) -> int:
    funds = billing.lasting(rental_refs=[rental.id for rental in rentals])
    at, wishes = now(), []
    for rental in rentals:
        known = funds.get(rental.organization)
        length = lease_length(
            post_paid=known is not None and known.post_paid,
            failover=rental.failover,
        )
        until = lease_until(
            at=at,
            length=length,
            expires_at=rental.expires_at,
            funds_end_at=None if known is None else known.ends_at,
        )
        wishes.append((rental.id, until))
    return provisioner.set_leases(wishes)


def _sets() -> Iterator[list[_Live]]:
    """Live rentals by whole organizations, several of them until a set is full."""
    rows = (
        Rental.objects.filter(
            state__in=_LIVE, desired_state=Rental.Desired.RUNNING, ended_at__isnull=True
        )
        .order_by("organization_id")
        .values_list("id", "organization_id", "expires_at", "failover")
    )
    found: list[_Live] = []
    live = (_Live(*row) for row in rows.iterator(chunk_size=2000))
    for _, group in groupby(live, key=lambda rental: rental.organization):
        found.extend(group)
        if len(found) >= _SET:
            yield found
            found = []
    if found:
        yield found
