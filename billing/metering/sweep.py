"""Find running rentals whose paid time is over; a tenant with money gets its holds refilled.

Rentals only: a disk that nobody can pay is neither stopped nor reported, and its next settlement
refills it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing.contracts.meters import MeterKind
from billing.ledger.accounts import lock_purses
from billing.metering.settle import settle
from billing.models import RentalMeter
from kernel.clock import AppNow, now

_RENTALS = Q(kind=MeterKind.GPU, running_since__isnull=False)


def exhausted(*, limit: int) -> list[UUID]:
    """Running rentals that nothing pays any more, soonest first.

    A rental is due when its hold is used up although nothing was settled since (the tick is late)
    or when credit was added after the last refill failed; both are mended here and not reported.
    A meter locked by somebody else is being settled right now and is left to the next sweep.
    """
    with transaction.atomic():
        due = list(
            RentalMeter.objects.select_for_update(skip_locked=True)
            .filter(_RENTALS, paid_until__lte=AppNow())
            .order_by("paid_until")[:limit]
        )
        if not due:
            return []
        present, ends = _refilled(due)
    return [key for key in ends if ends[key] <= present]


def running_out(*, within: timedelta, limit: int) -> dict[UUID, datetime]:
    """Running rentals whose money ends within that time, with the moment; refills those it can.

    Meters that somebody else settles are waited for, not skipped: one left out would look as if
    it had been paid.
    """
    with transaction.atomic():
        due = list(
            RentalMeter.objects.select_for_update()
            .filter(_RENTALS, paid_until__lte=AppNow() + within)
            .order_by("rental_ref")[:limit]
        )
        if not due:
            return {}
        present, ends = _refilled(due)
    return {key: end for key, end in ends.items() if end <= present + within}


def _refilled(due: list[RentalMeter]) -> tuple[datetime, dict[UUID, datetime]]:
    """Refill locked meters, soonest first; the present and until when each is paid after it."""
    lock_purses({meter.org_ref for meter in due})
    present = now()
    found = settle(
        meters=[meter.rental_ref for meter in due],
        taxed=any(meter.tax_ppm for meter in due),
        at=present,
    )
    after = {one.rental_ref: one.paid_until for one in found.meters}
    return present, {m.rental_ref: end for m in due if (end := after[m.rental_ref]) is not None}
