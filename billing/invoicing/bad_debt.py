"""Invoices that nobody pays: how late they are, written off, and booked back when money comes.

A write-off moves the receivable to bad_debt and lowers the credit limit by as much, so that the
floor stays where it is: what was not paid for must not be lent a second time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import F, QuerySet

from billing.contracts import InvoiceState, InvoiceView
from billing.contracts.dunning import OverdueView, WriteOffView
from billing.invoicing.credit_note import owed_minor
from billing.invoicing.reads import view
from billing.ledger.accounts import account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    Account,
    AccountKind,
    CallKind,
    CauseType,
    Invoice,
    Payment,
    Transaction,
    TransactionKind,
)
from billing.payments.intents import intend
from kernel.clock import AppNow, now
from kernel.errors import NotFound, Refusal
from kernel.money import from_minor

# The saved card is charged when an invoice is finalized. Where that fails, or there is none, a week
# is what a bookkeeping department needs to pay by hand.
NET: Final = timedelta(days=7)
_UNPAID: Final = (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE)


def overdue(*, org_ref: UUID | None = None) -> list[OverdueView]:
    """Unpaid invoices past their date, oldest first; of one organization, or of all."""
    rows = Invoice.objects.filter(state__in=_UNPAID, finalized_at__lte=AppNow() - NET)
    if org_ref is not None:
        rows = rows.filter(org_ref=org_ref)
    return _views(rows)


def unpaid(*, after: timedelta) -> list[OverdueView]:
    """Open invoices that were issued so long ago, up to their date, oldest first."""
    present = AppNow()
    rows = Invoice.objects.filter(
        state=InvoiceState.OPEN, finalized_at__lte=present - after, finalized_at__gt=present - NET
    )
    return _views(rows)


def _views(rows: QuerySet[Invoice]) -> list[OverdueView]:
    return [
        OverdueView(
            id=row.id,
            org_ref=row.org_ref,
            number=row.number or "",
            total_minor=owed_minor(row),
            due_at=row.finalized_at + NET,
            hosted_url=row.hosted_url,
            written_off=row.written_off_at is not None,
        )
        for row in rows.order_by("finalized_at", "id")
        if row.finalized_at is not None
    ]


def write_offs(*, limit: int) -> list[WriteOffView]:
    """Losses as the ledger has them, newest first, with what was booked back since."""
    debt = account(AccountKind.BAD_DEBT)
    bad = Transaction.objects.filter(kind=TransactionKind.BAD_DEBT, postings__account=debt)
    bad = bad.annotate(amount=F("postings__amount_micro"))
    losses = list(bad.filter(cause_type=CauseType.INVOICE).order_by("-id")[:limit])
    invoices = Invoice.objects.in_bulk([loss.cause_id for loss in losses])
    back: dict[UUID, list[tuple[int, datetime]]] = {}
    for found in bad.filter(cause_type=CauseType.PAYMENT, linked__in=losses).order_by("id"):
        assert found.linked_id is not None
        back.setdefault(found.linked_id, []).append((found.amount, found.at))
    return [
        WriteOffView(
            invoice_id=loss.cause_id,
            org_ref=invoices[loss.cause_id].org_ref,
            number=invoices[loss.cause_id].number or "",
            amount_micro=-loss.amount,
            at=loss.at,
            collected_micro=sum(amount for amount, _at in back.get(loss.id, [])),
            collected_at=back[loss.id][-1][1] if loss.id in back else None,
        )
        for loss in losses
    ]


def write_off(*, invoice_id: UUID) -> InvoiceView:
    """Give up an open invoice, here and by an intent at Stripe; in the caller's transaction.

    NotFound; Refusal invalid_transition for one that is not open. Money that comes later still
    pays it.
    """
    invoice = Invoice.objects.select_for_update().filter(id=invoice_id).first()
    if invoice is None:
        raise NotFound("invoice")
    if invoice.state != InvoiceState.OPEN:
        raise Refusal(
            "invalid_transition",
            f"The invoice is {invoice.state}: only an open one can be written off. Nothing was "
            "changed.",
            state=invoice.state,
            actions=[],
        )
    book(invoice)
    invoice.save(update_fields=["state", "written_off_at"])
    key = f"inv:{invoice.id}:write_off"
    intend(CallKind.INVOICE_WRITE_OFF, key=key, subject=invoice.id, org_ref=invoice.org_ref)
    return view(invoice)


def book(invoice: Invoice) -> None:
    """The locked, open invoice is a loss; the caller saves it."""
    amount = from_minor(owed_minor(invoice))
    purse = lock_purse(invoice.org_ref)
    legs = (
        (account(AccountKind.INVOICE_AR, invoice.org_ref), amount),
        (account(AccountKind.BAD_DEBT), -amount),
    )
    post([Entry(TransactionKind.BAD_DEBT, CauseType.INVOICE, invoice.id, legs)])
    Account.objects.filter(id=purse.tenant).update(
        receivable_micro=F("receivable_micro") - amount,
        credit_limit_micro=purse.credit_limit_micro - min(amount, purse.credit_limit_micro),
    )
    invoice.state, invoice.written_off_at = InvoiceState.UNCOLLECTIBLE, now()


def book_back(invoice: Invoice, payment: Payment, amount: int) -> None:
    """A payment came for an invoice that was written off: it is a receivable again, which the
    payment's own transaction then pays. The limit stays lowered: staff decide about that."""
    loss = Transaction.objects.get(
        kind=TransactionKind.BAD_DEBT, cause_type=CauseType.INVOICE, cause_id=invoice.id
    )
    legs = (
        (account(AccountKind.BAD_DEBT), amount),
        (account(AccountKind.INVOICE_AR, invoice.org_ref), -amount),
    )
    post([Entry(TransactionKind.BAD_DEBT, CauseType.PAYMENT, payment.id, legs, linked=loss.id)])
