"""Notices before a rental is interrupted, and their withdrawal.

A notice moves a running rental to ``interrupting``: it runs on, and is charged, until the announced
moment. When the cause goes away (a top-up, a later end date) it is withdrawn and the rental is as
it was before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext_noop as _

from billing import facade as billing
from kernel.clock import AppNow, now
from kernel.text import rfc3339
from kernel.turns import Turn, turns
from marketplace.accounts.phrases import phrase
from marketplace.models import Rental
from marketplace.rentals.announce import announce_notice
from marketplace.rentals.reasons import REASONS, actor_of
from marketplace.rentals.state import DEGRADED, INTERRUPTING, LEGAL, RUNNING
from marketplace.rentals.stop import halt_for
from marketplace.rentals.timeline import move
from provisioner import facade as provisioner
from provisioner.contracts import InstanceState

# Long enough to save one's work, short enough to be about now. Rentals that live for less than
# twice as long know their end anyway.
LEAD: Final = timedelta(minutes=10)
# How long an interruptible rental runs on after its notice. Two minutes are enough to write a
# checkpoint, and leave at least half a minute once the file in the machine shows the notice, which
# a kubelet updates only every minute or so. Longer, and whoever pays the full price waits longer.
INTERRUPTION: Final = timedelta(seconds=120)
_BATCH: Final = 500

_TEXTS: Final = {
    "end_date": _("Its end date is near: it will be ended at {at}. Extend it to keep it."),
    "outbid": _(
        "An order at the full price needs its cards: it runs on until {at} and is stopped then."
    ),
    "admin": _(
        "A payment of the organization is contested at its bank: it runs on until {at} and is "
        "stopped then. Write to support."
    ),
    "funds": _("The balance lasts until {at}: it will be stopped then. Top up to keep it."),
    "budget": _("Its budget lasts until {at}: it will be stopped then. Raise it to keep it."),
    "idle": _("Its cards do nothing: it will be stopped at {at} unless one of them works before."),
    "maintenance": _(
        "Its owner takes the host down: it runs on until {at} and is stopped then. What is on "
        "volumes is kept."
    ),
    "contract_end": _(
        "Its owner takes the cards back, as was said when it was rented: it runs on until {at} and "
        "is stopped then. What is on volumes is kept."
    ),
    "overdue": _("An invoice is two weeks overdue: it will be stopped {at}. Pay it to keep it."),
}
# The notice is called otherwise than its reason in the contract. For staff's there is no type of
# its own: ``rental.interrupting`` tells it.
_NAMES: Final = {
    "outbid": "interruption",
    "budget": "funds",
    "overdue": "funds",
    "contract_end": "end_date",
}
_UNNAMED: Final = frozenset({"admin"})


def announce(limit: int = _BATCH) -> int:
    """Give the notices that are due and withdraw those whose cause went; how many of both."""
    with turns("notice") as turn:
        return _end_dates(limit, turn) + _funds(limit, turn)


def give(rental: Rental, reason: str, *, at: datetime) -> None:
    """Tell the locked, running rental's people that it will be interrupted at ``at``."""
    rental.interrupt_at = at
    move(
        rental,
        INTERRUPTING,
        at=now(),
        reason=reason,
        actor=actor_of(reason, REASONS[reason].fault),
        text=phrase(_TEXTS[reason], at=rfc3339(at)),
        evidence={"interrupt_at": rfc3339(at)},
    )
    if reason == "outbid":
        provisioner.set_notice(rental_ref=rental.id, at=at)
    if reason not in _UNNAMED:
        announce_notice(rental, notice=_NAMES.get(reason, reason))


def withdraw(rental: Rental, reason: str, *, text: str) -> bool:
    """Take the notice back that was given for ``reason``; False when there is none."""
    if rental.state != INTERRUPTING or rental.reason != reason:
        return False
    rental.interrupt_at = None
    provisioner.set_notice(rental_ref=rental.id, at=None)
    view = provisioner.instance(rental_ref=rental.id)
    well = view is None or view.state != InstanceState.DEGRADED
    move(
        rental,
        RUNNING if well else DEGRADED,
        at=now(),
        reason="notice_withdrawn" if well or view is None else view.reason,
        actor="platform",
        text=text,
    )
    return True


def enforce(reason: str, due: Mapping[UUID, datetime], *, withdrawn: str) -> int:
    """Give the notices for ``reason``, stop what is due, withdraw where it is not any more.

    due: by rental, when it is to be stopped; all of them, and no others. The number stopped.
    """
    given = Rental.objects.filter(state=INTERRUPTING, reason=reason).exclude(id__in=list(due))
    stopped = 0
    with turns(f"{reason}_notice") as turn:
        for rental_id in list(given.values_list("id", flat=True)):
            with turn(rental_id), transaction.atomic(durable=True):
                rental = _locked(rental_id)
                if rental is not None:
                    withdraw(rental, reason, text=withdrawn)
        for rental_id, until in due.items():
            with turn(rental_id):
                stopped += _enforce(rental_id, reason, until)
    return stopped


def _enforce(rental_id: UUID, reason: str, until: datetime) -> bool:
    with transaction.atomic(durable=True):
        rental = _locked(rental_id)
        if rental is None or rental.state not in LEGAL["stop"]:
            return False
        if until <= now():
            halt_for(rental, reason)
            return True
        if rental.state == RUNNING:
            give(rental, reason, at=until)
        return False


def _end_dates(limit: int, turn: Turn) -> int:
    due = Rental.objects.filter(
        state=RUNNING,
        expires_at__lte=AppNow() + LEAD,
        expires_at__gt=AppNow(),
        created_at__lt=F("expires_at") - 2 * LEAD,
    )
    given = 0
    for rental_id in list(due.order_by("expires_at").values_list("id", flat=True)[:limit]):
        with turn(rental_id), transaction.atomic(durable=True):
            rental = _running(rental_id)
            if rental is not None and rental.expires_at is not None:
                give(rental, "end_date", at=rental.expires_at)
                given += 1
    return given


def _funds(limit: int, turn: Turn) -> int:
    soon = billing.running_out(within=LEAD, limit=limit)
    done = 0
    for rental_ref, until in soon.items():
        with turn(rental_ref), transaction.atomic(durable=True):
            rental = _running(rental_ref)
            if rental is not None:
                give(rental, "funds", at=until)
                done += 1
    told = Rental.objects.filter(state=INTERRUPTING, reason="funds")
    for rental_id in list(told.exclude(id__in=soon).values_list("id", flat=True)[:limit]):
        with turn(rental_id), transaction.atomic(durable=True):
            rows = Rental.objects.select_for_update(skip_locked=True)
            rental = rows.filter(id=rental_id, state=INTERRUPTING, reason="funds").first()
            if rental is not None:
                done += withdraw(rental, "funds", text="The balance was topped up in time.")
    return done


def _running(rental_id: UUID) -> Rental | None:
    rental = _locked(rental_id)
    return rental if rental is not None and rental.state == RUNNING else None


def _locked(rental_id: UUID) -> Rental | None:
    return Rental.objects.select_for_update(skip_locked=True).filter(id=rental_id).first()
