"""Looking at rentals: one, many, waiting for a state, and what was charged and why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from django.db import connection
from django.db.models import Count, QuerySet

from billing import facade as billing
from billing.contracts import ChargeView
from billing.contracts.incidents import IncidentCreditView
from billing.facade import incidents
from kernel.errors import NotFound
from kernel.ids import BadId
from kernel.ids import parse as parse_id
from marketplace.accounts.access import STAFF, Principal, get_visible, visible
from marketplace.models import Rental, RentalEvent, Volume, VolumeMeter
from marketplace.rentals.present import LOADED
from marketplace.rentals.state import FAILED, TERMINATED
from provisioner import facade as provisioner
from provisioner.contracts.evidence import Evidence
from provisioner.facade import disks

MAX_WAIT: Final = 60
# A look costs one indexed read. Four a second feel immediate; more would load the database for
# nobody's benefit, fewer would be seen.
_LOOK_EVERY: Final = 0.25
# A waiting request keeps one of a web process's threads (16 as we start it). Beyond half of them
# the others answer at once with what is, so that waiters never take the whole process.
_waiting = threading.BoundedSemaphore(8)


def rentals(acting: Principal) -> QuerySet[Rental]:
    """The caller's rentals, loaded for describing."""
    return visible(Rental, acting).select_related(*LOADED)


def every(acting: Principal) -> QuerySet[Rental]:
    """Everybody's rentals with their organizations, for staff."""
    acting.require(STAFF)
    return Rental.objects.select_related("organization")


def get(acting: Principal, rental_id: str) -> Rental:
    """One of the caller's rentals; raises NotFound."""
    return get_visible(Rental.objects.select_related(*LOADED), acting, rental_id)


def wait_for(
    acting: Principal,
    rental_id: str,
    state: str,
    timeout: float,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Rental:
    """The rental once it is in ``state``, or can never be again, or ``timeout`` s are over.

    Looks at the state alone between pauses and gives its database connection back meanwhile: a
    pool must not be emptied by those who wait. Raises NotFound.
    """
    rental = get(acting, rental_id)
    over = {state, FAILED, TERMINATED}
    if rental.state in over or not _waiting.acquire(blocking=False):
        return rental
    try:
        deadline = time.monotonic() + min(timeout, MAX_WAIT)
        while rental.state not in over and time.monotonic() < deadline:
            if not connection.in_atomic_block:
                connection.close()
            pause(min(_LOOK_EVERY, max(0.0, deadline - time.monotonic())))
            seen = Rental.objects.values_list("state", flat=True).get(id=rental.id)
            if seen != rental.state:
                rental = get(acting, rental_id)
        return rental
    finally:
        _waiting.release()


def by_state() -> dict[str, int]:
    """How many rentals of all organizations are in each state, for operators."""
    rows = Rental.objects.order_by("state").values_list("state").annotate(count=Count("id"))
    return dict(rows)


def events(rental: Rental) -> QuerySet[RentalEvent]:
    """Its timeline."""
    return RentalEvent.objects.filter(rental=rental)


def all_events(
    acting: Principal,
    *,
    rental_id: str | None = None,
    state: str | None = None,
    created_after: datetime | None = None,
) -> QuerySet[RentalEvent]:
    """What happened to the caller's rentals; raises NotFound for a rental that is not theirs."""
    found = visible(RentalEvent, acting)
    if rental_id is not None:
        found = found.filter(rental=get_visible(Rental, acting, rental_id))
    if state is not None:
        found = found.filter(state=state)
    if created_after is not None:
        found = found.filter(at__gt=created_after)
    return found


def charges(rental: Rental) -> list[ChargeView]:
    """Its usage lines, oldest first."""
    return billing.charges(rental_ref=rental.id)


def incident_credits(rental: Rental) -> list[IncidentCreditView]:
    """What it was given for incidents, oldest first."""
    return incidents.credits_of(rental_ref=rental.id)


def disk_charges(
    acting: Principal, volume_id: str, *, newest: int | None = None
) -> list[tuple[ChargeView, VolumeMeter]]:
    """The usage lines of one of the caller's volumes at all its sizes, or so many of the newest,
    oldest first; NotFound."""
    volume = get_visible(Volume, acting, volume_id)
    sizes = {meter.id: meter for meter in VolumeMeter.objects.filter(volume=volume)}
    found = billing.charges_of(rental_refs=list(sizes), limit=newest)
    return [(charge, sizes[charge.rental_ref]) for charge in reversed(found)]


def evidence(acting: Principal, charge_id: str) -> tuple[ChargeView, VolumeMeter | None, Evidence]:
    """A charge of one of the caller's rentals or (with its size) volumes, and the observations
    behind it; NotFound."""
    try:
        charge = billing.charge(charge_id=parse_id("charge", charge_id))
    except BadId as error:
        raise NotFound("charge") from error
    window = {"from_at": charge.from_at, "to_at": charge.to_at}
    if visible(Rental, acting).filter(id=charge.rental_ref).exists():
        return charge, None, provisioner.evidence(interval_id=charge.source_ref, **window)
    mine = VolumeMeter.objects.filter(volume__in=visible(Volume, acting))
    size = mine.filter(id=charge.rental_ref).select_related("volume").first()
    if size is None:
        raise NotFound("charge")
    return charge, size, disks.evidence(interval_id=charge.source_ref, **window)
