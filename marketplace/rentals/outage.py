"""Credit for interruptions: from the last proof to the next, or to the end of the rental's wait.

What broke off and since when is read off the provisioner's proofs; until when its renter waited for
the same machine is in the rental's timeline. A case that lasts is credited in steps, so that each
hour holds its own credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing import facade as billing
from kernel.clock import now
from kernel.money import format_micro
from kernel.turns import turns
from marketplace.accounts import switches
from marketplace.models import Rental, RentalEvent
from marketplace.rentals import state as states
from marketplace.rentals.reasons import actor_of
from marketplace.rentals.timeline import note
from provisioner.contracts import Fault
from provisioner.contracts.interruption import Interruption
from provisioner.facade import interruptions as provisioner

_LIMIT: Final = 5000
# Short enough that an hour's interruption is on the balance within it; longer than most
# interruptions, which are credited once, at their end.
STEP: Final = timedelta(minutes=10)
# From here on its renter waits for this machine no more: it was told, or asked for something else.
_OVER: Final = Q(
    state__in=(states.STOPPING, states.STOPPED, states.FAILED, states.QUEUED, *states.ENDING)
) | Q(reason="restarted_by_user")


def compensate(limit: int = _LIMIT) -> int:
    """Credit what is new of every interruption; how many cases it was. None while charging is
    stopped: what nobody charges for is not credited either."""
    if switches.holds_charging("outages"):
        return 0
    found = provisioner.interruptions(limit=limit)
    if not found:
        return 0
    ends = _ends(found)
    known = billing.outage_seconds(case_refs=[case.interval_id for case in found])
    present, done = now(), 0
    with turns("outage") as turn:
        for case in found:
            if case.interval_id not in ends:
                steps = (present - case.from_at) // STEP * STEP
                if steps.total_seconds() <= known.get(case.interval_id, 0):
                    continue
            with turn(case.interval_id):
                done += _compensate_one(case)
    return done


def _compensate_one(case: Interruption) -> bool:
    with transaction.atomic(durable=True):
        rows = Rental.objects.select_for_update(skip_locked=True)
        rental = rows.filter(id=case.rental_ref).first()
        if rental is None:
            return False  # somebody moves it now: the next pass sees where to
        end = _ends([case]).get(case.interval_id)
        until = end or case.from_at + (now() - case.from_at) // STEP * STEP
        given = billing.outage(
            case_ref=case.interval_id,
            rental_ref=rental.id,
            from_at=case.from_at,
            to_at=until,
            by_provider=case.fault == Fault.HOST,
        )
        if end is not None:
            _finish(case, end)
            if given:
                _tell(rental, case, given, end)
        return True


def _finish(case: Interruption, end: datetime) -> None:
    if case.unasked and case.went_on:
        # Its cards ran while we did not look: the renter is not charged, and the owner not robbed.
        seconds = int((end - case.proven_to).total_seconds())
        billing.provider_gap(case_ref=case.interval_id, rental_ref=case.rental_ref, seconds=seconds)
    provisioner.interruptions_over(interval_ids=[case.interval_id])


def _tell(rental: Rental, case: Interruption, given: int, until: datetime) -> None:
    seconds = int((until - case.from_at).total_seconds())
    text = (
        f"It was interrupted for {seconds} s. That time is not charged, and "
        f"{format_micro(given)} {rental.currency} were credited for it."
    )
    fault = Fault.PLATFORM if case.unasked else case.fault
    actor = actor_of(case.reason, fault)
    note(rental, at=now(), reason=case.reason, actor=actor, text=text)


def _ends(cases: Sequence[Interruption]) -> dict[UUID, datetime]:
    """By case, when it was over; those that last are left out."""
    events = RentalEvent.objects.filter(_OVER, rental__in={case.rental_ref for case in cases})
    over: dict[UUID, list[datetime]] = {}
    for rental_ref, at in events.order_by("at").values_list("rental_id", "at"):
        over.setdefault(rental_ref, []).append(at)
    ends = {}
    for case in cases:
        after = (at for at in over.get(case.rental_ref, ()) if at >= case.proven_to)
        known = [at for at in (next(after, None), case.to_at) if at is not None]
        if known:
            ends[case.interval_id] = min(known)
    return ends
