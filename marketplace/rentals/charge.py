"""Proven seconds become usage lines, exactly once; what has ended gives its hold back.

A batch is one transaction: windows that are proven and uncharged, each inside a clock hour (UTC),
are posted to billing and marked charged at their interval. Whatever a crash interrupts is simply
still uncharged. One charger works at a time, so "nothing left" is a fact when it is seen.
"""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from django.db import connection, transaction

from billing import facade as billing
from billing.contracts import UsageWindows
from kernel.arrays import Array
from kernel.clock import AppNow
from kernel.turns import each, turns
from marketplace.accounts import switches
from marketplace.models import Rental
from marketplace.rentals.state import FAILED, LEGAL, QUEUED, STOPPED, TERMINATED
from marketplace.rentals.stop import halt_all
from marketplace.volumes import metering
from provisioner import facade as provisioner
from provisioner.contracts import Chargeable
from provisioner.facade import disks

# Windows per transaction: the accounts of a batch stay locked until it commits.
_BATCH: Final = 5000
# A machine is not running and none is on its way: what was held for it is not needed.
_AT_REST: Final = (FAILED, QUEUED, STOPPED, TERMINATED)
# Rentals stopped in one transaction when money ends: more of them keep their people waiting for a
# lock longer than half a second, fewer stop less in a second.
_TOGETHER: Final = 20
_LOCK: Final = 0x636861726765  # "charge": an advisory lock's name, any constant unused elsewhere


def charge(batch: int = _BATCH) -> int:
    """Charge until nothing proven is left uncharged; the number of usage lines posted.

    Nothing while charging is stopped: proven windows wait, and with them the end of rentals.
    """
    if switches.holds_charging("charge"):
        return 0
    posted = 0
    with turns("charge") as turn:
        with turn("meters of volumes"):
            metering.follow()
        with turn("rentals"):
            posted += _charge(provisioner, batch)
        with turn("volumes"):
            posted += _charge(disks, batch)
    return posted


class _Source(Protocol):
    """A door to proven windows: of rentals or of volumes."""

    def chargeable(self, *, limit: int) -> Chargeable: ...

    def ack_charged(self, *, interval_ids: Array, to_at: Array) -> None: ...


def _charge(source: _Source, batch: int) -> int:
    posted = 0
    while True:
        with transaction.atomic(durable=True):
            _alone()
            found = source.chargeable(limit=batch)
            if found.count:
                windows = UsageWindows(
                    rental_refs=found.rental_refs,
                    source_refs=found.interval_ids,
                    from_at=found.from_at,
                    to_at=found.to_at,
                )
                posted += billing.post_usage(windows=windows)
                source.ack_charged(interval_ids=found.interval_ids, to_at=found.to_at)
        if not found.count:  # an interval shows one hour at a time: a short batch is no end
            return posted


def _alone() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def settle(limit: int = _BATCH) -> int:
    """Give back the holds of rentals at rest, and of disks that are over, whose last second is
    charged; how many."""
    ended = Rental.objects.filter(settled_at=None, state__in=_AT_REST).order_by("id")
    waiting: list[UUID] = list(ended.values_list("id", flat=True)[:limit])
    done = 0
    with turns("settle") as turn:
        for rental_id in waiting:
            with turn(rental_id):
                done += _settle_one(rental_id)
        with turn("volumes"):
            done += metering.settle()
    return done


def _settle_one(rental_id: UUID) -> bool:
    with transaction.atomic(durable=True):
        rental = Rental.objects.select_for_update().get(id=rental_id)
        if rental.settled_at is not None or rental.state not in _AT_REST:
            return False
        if not provisioner.is_settled(rental_ref=rental_id):
            return False  # an ended meter takes no more seconds: none may be lost here
        billing.end_rental(rental_ref=rental_id)
        Rental.objects.filter(id=rental_id).update(settled_at=AppNow())
        return True


def funds(limit: int = _BATCH) -> int:
    """Stop rentals whose held money is used up; how many. What they keep outlives it.

    None while charging is stopped: what nobody charges has not used up anything.
    """
    if switches.holds_charging("funds"):
        return 0
    due = billing.exhausted(limit=limit)
    together = (due[at : at + _TOGETHER] for at in range(0, len(due), _TOGETHER))
    return sum(each("funds", together, _stop_unpaid))


def _stop_unpaid(rental_refs: list[UUID]) -> int:
    with transaction.atomic(durable=True):
        # A sweep that takes long meets the next one on the same list: they share it.
        rows = Rental.objects.select_for_update(skip_locked=True).order_by("id")
        rentals = list(rows.filter(id__in=rental_refs, state__in=LEGAL["stop"]))
        halt_all(rentals, "funds")
        return len(rentals)
