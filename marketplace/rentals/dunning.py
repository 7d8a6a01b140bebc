"""Unpaid invoices: reminded, then nothing new is rented, then what runs is stopped, then lost.

Days count from the invoice's date. Each step is told once, by mail; the refusal and the stop follow
from the invoices themselves, so a payment ends both at once. Stopping deletes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_noop as _

from billing.contracts.dunning import OverdueView
from billing.facade import dunning as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import public
from kernel.money import CURRENCY, format_micro, from_minor
from kernel.text import rfc3339
from kernel.turns import turns
from marketplace.accounts import audit, letters
from marketplace.accounts.money_mail import tell
from marketplace.accounts.phrases import phrase
from marketplace.models import Dunning, Rental
from marketplace.rentals import notice
from marketplace.rentals.state import INTERRUPTING, LEGAL, RUNNING

BLOCK: Final = 10
STOP: Final = 14
GIVE_UP: Final = 60
# A saved card that can be charged is charged within minutes; then the receipt says it all.
_PAID_AT_ONCE: Final = timedelta(hours=1)
_REASON: Final = "overdue"

# Days after the date, subject, and what follows. Reminders come first; the last two weeks before a
# loss is booked need no mail: everything was said and nothing runs.
STEPS: Final = (
    (3, _("Invoice {number} is overdue"), _("Please pay it in the next days.")),
    (
        7,
        _("Invoice {number} is a week overdue"),
        _("In three days new rentals are refused until then."),
    ),
    (
        BLOCK,
        _("Invoice {number} is overdue: no new rentals"),
        _("New rentals are refused until it is paid; in four days what runs is stopped."),
    ),
    (
        STOP,
        _("Invoice {number} is two weeks overdue: rentals are stopped"),
        _(
            "What runs is stopped now, after a notice. Volumes are kept. Once the invoice is paid "
            "everything can be started again."
        ),
    ),
    (
        GIVE_UP,
        _("Invoice {number} was not paid"),
        _("We booked it as a loss. It can still be paid."),
    ),
)


def run() -> None:
    """Tell what is new, stop what has to stop, write off what is two months late."""
    overdue = billing.overdue()
    at = now()
    with turns("dunning") as turn:
        for invoice in billing.unpaid(after=_PAID_AT_ONCE):
            with turn(invoice):
                _tell_of_open(invoice)
        for invoice in overdue:
            with turn(invoice):
                _step(invoice, at)
        with turn(_stop):
            _stop(overdue, at)


def _tell_of_open(invoice: OverdueView) -> None:
    """Once, of an invoice that no card paid at once."""
    letters.tell(
        invoice.org_ref,
        "invoice.open",
        cause=public("invoice", invoice.id),
        facts={
            "name": _number(invoice),
            "text": phrase(
                "{amount}, due by {at}.", amount=_usd(invoice), at=letters.moment(invoice.due_at)
            ),
            "path": f"/billing/invoices/{public('invoice', invoice.id)}",
        },
    )


def check(organization_id: UUID) -> None:
    """Raise payment_requires_action while an invoice is so late that nothing new is rented."""
    at = now()
    for invoice in billing.overdue(org_ref=organization_id):
        if invoice.due_at + timedelta(days=BLOCK) <= at:
            raise Refusal(
                "payment_requires_action",
                f"Invoice {_number(invoice)} of {_usd(invoice)} is overdue since "
                f"{rfc3339(invoice.due_at)}. Nothing was rented. Pay it, then try again.",
                url=invoice.hosted_url or f"{settings.GPUYARD_BASE_URL}/billing/invoices",
            )


def _step(invoice: OverdueView, at: datetime) -> None:
    late = (at - invoice.due_at).days
    reached = [step for step in STEPS if step[0] <= late]
    if not reached:
        return
    day, subject, text = reached[-1]
    with transaction.atomic(durable=True):
        Dunning.objects.bulk_create(
            [Dunning(invoice_ref=invoice.id, organization_id=invoice.org_ref)],
            ignore_conflicts=True,
        )
        row = Dunning.objects.select_for_update().get(pk=invoice.id)
        if row.day >= day:
            return
        row.day = day
        row.save(update_fields=["day"])
        if day == GIVE_UP and not invoice.written_off:
            _give_up(invoice)
        tell(
            invoice.org_ref,
            "invoice.overdue",
            subject=phrase(subject, number=_number(invoice)),
            text=phrase(
                "{amount} were due on {day}. {consequence} Pay it here: {url}",
                amount=_usd(invoice),
                day=f"{invoice.due_at:%Y-%m-%d}",
                consequence=phrase(text),
                url=invoice.hosted_url or f"{settings.GPUYARD_BASE_URL}/billing/invoices",
            ),
        )


def _give_up(invoice: OverdueView) -> None:
    billing.write_off(invoice_id=invoice.id)
    audit.record(
        acting="platform",
        action="invoice.write_off",
        object=public("invoice", invoice.id),
        organization_ref=invoice.org_ref,
        details={"reason": f"not paid {GIVE_UP} days after its date"},
    )


def _stop(overdue: list[OverdueView], at: datetime) -> None:
    """Nobody loses work without a notice, also when we come late."""
    ends: dict[UUID, datetime] = {}
    for invoice in overdue:
        end = invoice.due_at + timedelta(days=STOP)
        if end <= at + notice.LEAD:
            ends[invoice.org_ref] = min(end, ends.get(invoice.org_ref, end))
    live = Rental.objects.filter(organization__in=ends, state__in=LEGAL["stop"]).order_by("id")
    due = {rental.id: _until(rental, ends[rental.organization_id], at) for rental in live}
    notice.enforce(_REASON, due, withdrawn="The invoice was paid.")


def _until(rental: Rental, end: datetime, at: datetime) -> datetime:
    """What runs gets its notice however late we are; one that was given stands."""
    if rental.state == RUNNING:
        return max(end, at + notice.LEAD)
    if rental.state == INTERRUPTING and rental.interrupt_at is not None:
        return max(end, rental.interrupt_at)
    return end


def _number(invoice: OverdueView) -> str:
    return invoice.number or public("invoice", invoice.id)


def _usd(invoice: OverdueView) -> str:
    return f"{format_micro(from_minor(invoice.total_minor), places=2)} {CURRENCY}"
