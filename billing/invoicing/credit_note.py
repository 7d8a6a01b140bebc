"""Credit notes: an invoice that asked for too much is lowered, or, when paid, given as credit.

Booked once Stripe has the note with the same total, never before: until then nothing is lowered.
All notes of an invoice together never pass its total; the database counts them. The invoice's row
is locked first, then the tenant: whoever converges on an invoice takes them in the same order.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, Sum

from billing.contracts import InvoiceState, PaymentState
from billing.contracts.refunds import CreditNoteView
from billing.ledger.accounts import account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    Account,
    AccountKind,
    CallKind,
    CauseType,
    CreditNote,
    Invoice,
    TransactionKind,
)
from billing.models.ordered import newest
from billing.payments import second
from billing.payments.intents import intend
from billing.payments.return_facts import CreditNoteFact
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.money import CURRENCY, MICRO_PER_MINOR, format_micro, from_minor, to_minor

log = structlog.get_logger(__name__)
_CREDITABLE = (InvoiceState.OPEN, InvoiceState.PAID)


def order_credit_note(
    *, invoice_id: UUID, amount_micro: int, reason: str, ordered_by: str
) -> CreditNoteView:
    """Order a note; it goes to Stripe unless a second person must approve it first.

    NotFound; Refusal invalid_transition for a draft or void invoice; InvalidRequest for more than
    is left of its total.
    """
    text = second.check_reason(reason)
    invoice = _lock_invoice(invoice_id)
    lock_purse(invoice.org_ref)  # orders of one person for one organization come one by one
    _check(invoice, amount_micro)
    note = CreditNote.objects.create(
        org_ref=invoice.org_ref,
        invoice=invoice,
        amount_micro=amount_micro,
        reason=text,
        paid=invoice.state == InvoiceState.PAID,
        ordered_by=ordered_by[:100],
        needs_second=second.needs_second(
            CreditNote,
            org_ref=invoice.org_ref,
            ordered_by=ordered_by[:100],
            amount_micro=amount_micro,
        ),
    )
    if not note.needs_second:
        _send(note)
    note.refresh_from_db(fields=["created_at"])
    return _view(note)


def approve_credit_note(*, order_id: UUID, approved_by: str, alone: bool) -> CreditNoteView:
    """Approve what was ordered, and send it."""
    wanted = CreditNote.objects.filter(id=order_id).first()
    if wanted is None:
        raise NotFound("credit note")
    invoice = _lock_invoice(wanted.invoice_id)
    note = second.lock_waiting(CreditNote, order_id, what="credit note")
    _check(invoice, note.amount_micro)
    note.paid = invoice.state == InvoiceState.PAID
    note.save(update_fields=["paid"])
    second.approve(note, approved_by=approved_by, alone=alone)
    _send(note)
    return _view(note)


def decline_credit_note(*, order_id: UUID, declined_by: str, reason: str) -> CreditNoteView:
    """End an order that waits."""
    return _view(
        second.decline(
            CreditNote, order_id, what="credit note", declined_by=declined_by, reason=reason
        )
    )


def credit_notes(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[CreditNoteView]:
    """Newest first; of one organization or of all."""
    rows = CreditNote.objects.all()
    return [_view(row) for row in newest(rows, org_ref=org_ref, after=after, limit=limit)]


def owed_minor(invoice: Invoice) -> int:
    """What an invoice asks for after the notes that lowered it."""
    lowered = CreditNote.objects.filter(
        invoice=invoice, paid=False, state=PaymentState.SUCCEEDED
    ).aggregate(total=Sum("amount_micro"))["total"]
    return invoice.total_minor - to_minor(lowered or 0)


def note_seen(note_id: UUID, fact: CreditNoteFact) -> bool:
    """One of ours as Stripe has it now; False when there is none of that id here."""
    with transaction.atomic():
        wanted = CreditNote.objects.filter(id=note_id).first()
        if wanted is None:
            return False
        _lock_invoice(wanted.invoice_id)
        note = CreditNote.objects.select_for_update().get(id=note_id)
        note.stripe_id = note.stripe_id or fact.stripe_id
        note.number = fact.number or note.number
        wrong = _wrong(note, fact)
        if wrong:
            log.error("credit_note_alarm", note=str(note.id), text=wrong)
            note.failure = wrong
        elif note.state == PaymentState.PENDING:
            _book(note)
            note.state, note.failure = PaymentState.SUCCEEDED, ""
        note.save()
    return True


def note_refused(note_id: UUID, failure: str) -> None:
    """Stripe did not make it: nothing was lowered."""
    CreditNote.objects.filter(
        id=note_id, state=PaymentState.PENDING, stripe_id__isnull=True
    ).update(state=PaymentState.FAILED, failure=failure[:500])


def _wrong(note: CreditNote, fact: CreditNoteFact) -> str:
    if fact.void:
        return "Voided at Stripe: put it right by hand."
    if (fact.total_minor, fact.currency) != (to_minor(note.amount_micro), CURRENCY):
        return f"Stripe's note is {fact.total_minor} cents, ours {to_minor(note.amount_micro)}."
    return ""


def _book(note: CreditNote) -> None:
    purse = lock_purse(note.org_ref)
    revenue = account(AccountKind.REVENUE)
    gains = purse.tenant if note.paid else account(AccountKind.INVOICE_AR, note.org_ref)
    tax = _tax_in(note)
    legs = (
        (gains, note.amount_micro),
        (revenue, tax - note.amount_micro),
        (account(AccountKind.TAX_PAYABLE), -tax),
    )
    entry = Entry(TransactionKind.CREDIT_NOTE, CauseType.CREDIT_NOTE, note.id, legs)
    post([entry])
    note.txn_id = entry.id
    if not note.paid:
        Account.objects.filter(id=purse.tenant).update(
            receivable_micro=F("receivable_micro") - note.amount_micro
        )


def _tax_in(note: CreditNote) -> int:
    """Its part of the invoice's tax, in micro-units: of notes for all of it, exactly all."""
    invoice = note.invoice
    asked = invoice.lines.aggregate(total=Sum("tax_minor"))["total"] or 0
    others = CreditNote.objects.filter(invoice=invoice, state=PaymentState.SUCCEEDED)
    before = others.exclude(id=note.id).aggregate(total=Sum("amount_micro"))["total"] or 0
    total, tax = from_minor(invoice.total_minor), from_minor(asked)
    return tax * (before + note.amount_micro) // total - tax * before // total


def _lock_invoice(invoice_id: UUID) -> Invoice:
    invoice = Invoice.objects.select_for_update().filter(id=invoice_id).first()
    if invoice is None:
        raise NotFound("invoice")
    return invoice


def _check(invoice: Invoice, amount: int) -> None:
    if invoice.state not in _CREDITABLE:
        raise Refusal(
            "invalid_transition",
            f"A credit note needs an open or a paid invoice; this one is {invoice.state}.",
            state=invoice.state,
            actions=[],
        )
    rest = from_minor(invoice.total_minor) - invoice.noted_micro
    if amount <= 0 or amount % MICRO_PER_MINOR:
        raise InvalidRequest({"amount": ["whole cents, more than zero"]})
    if amount > rest:
        most = format_micro(rest, places=2)
        raise InvalidRequest({"amount": [f"at most {most} {CURRENCY} of the invoice is left"]})


def _send(note: CreditNote) -> None:
    intend(CallKind.CREDIT_NOTE, key=f"cn:{note.id}", subject=note.id, org_ref=note.org_ref)


def _view(row: CreditNote) -> CreditNoteView:
    return CreditNoteView(
        **second.fields(row),
        state=second.state(row, row.state),
        invoice_id=row.invoice_id,
        number=row.number,
        failure=row.failure,
    )
