"""Make an invoice agree with Stripe's: booked at finalization, paid once, verified before both."""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, Q

from billing.contracts import InvoiceState, PaymentState
from billing.invoicing import bad_debt
from billing.invoicing.credit_note import owed_minor
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    Account,
    AccountKind,
    CallKind,
    CauseType,
    Invoice,
    InvoiceLine,
    TransactionKind,
)
from billing.payments.converge import book, locked_payment, settle_payment
from billing.payments.facts import InvoiceFact, PaymentFact
from billing.payments.intents import intend
from kernel.clock import now
from kernel.money import from_minor

log = structlog.get_logger(__name__)
_OWED = frozenset({InvoiceState.OPEN, InvoiceState.PAID, InvoiceState.UNCOLLECTIBLE})


def created(invoice_id: UUID, stripe_id: str) -> None:
    """The draft exists at Stripe: its lines are next."""
    with transaction.atomic():
        invoice = _locked(invoice_id)
        invoice.stripe_id = invoice.stripe_id or stripe_id
        invoice.save(update_fields=["stripe_id"])
        for line in invoice.lines.all():
            key = f"inv:{invoice.id}:line:{line.position}"
            intend(CallKind.INVOICE_LINE, key=key, subject=line.id, org_ref=invoice.org_ref)


def line_written(line_id: UUID, stripe_id: str) -> None:
    """A line exists at Stripe: after the last one they are taxed, or the invoice is finalized."""
    with transaction.atomic():
        line = InvoiceLine.objects.get(id=line_id)
        invoice = _locked(line.invoice_id)
        InvoiceLine.objects.filter(id=line_id).update(stripe_id=stripe_id)
        if invoice.lines.filter(stripe_id__isnull=True).exists():
            return
        if invoice.lines.filter(Q(tax_ppm__gt=0) | ~Q(invoice__tax_reason="")).exists():
            key = f"inv:{invoice.id}:tax"
            intend(CallKind.INVOICE_TAX, key=key, subject=invoice.id, org_ref=invoice.org_ref)
        else:
            _intend_finalize(invoice)


def taxed(invoice_id: UUID) -> None:
    """Its lines carry their tax at Stripe."""
    with transaction.atomic():
        _intend_finalize(_locked(invoice_id))


def _intend_finalize(invoice: Invoice) -> None:
    key = f"inv:{invoice.id}:finalize"
    intend(CallKind.INVOICE_FINALIZE, key=key, subject=invoice.id, org_ref=invoice.org_ref)


def alarm(invoice_id: UUID, text: str) -> None:
    """Note what a person has to look at; the invoice goes no further by itself."""
    log.error("invoice_alarm", invoice=str(invoice_id), text=text)
    Invoice.objects.filter(id=invoice_id).exclude(state=InvoiceState.PAID).update(alarm=text[:500])


def invoice_seen(invoice_id: UUID, fact: InvoiceFact) -> bool:
    """An invoice as Stripe has it now; False when there is none of that id here."""
    with transaction.atomic():
        invoice = Invoice.objects.select_for_update().filter(id=invoice_id).first()
        if invoice is None:
            return False
        if fact.state in _OWED and fact.total_minor != invoice.total_minor:
            alarm(
                invoice.id,
                f"Stripe's total is {fact.total_minor} cents, the ledger's {invoice.total_minor}.",
            )
            return True
        invoice.stripe_id = invoice.stripe_id or fact.stripe_id
        invoice.number = fact.number or invoice.number
        invoice.hosted_url = fact.hosted_url or invoice.hosted_url
        if fact.state in _OWED and invoice.finalized_at is None:
            _finalize(invoice)
        if fact.state == InvoiceState.PAID:
            _pay(invoice, fact.payments)
        elif fact.state == InvoiceState.VOID:
            _void(invoice)
        elif fact.state == InvoiceState.UNCOLLECTIBLE and invoice.state == InvoiceState.OPEN:
            bad_debt.book(invoice)
        invoice.save()
    return True


def _finalize(invoice: Invoice) -> None:
    """From now on it is owed as an invoice: out of the balance, and the floor rises with it."""
    amount = from_minor(invoice.total_minor)
    purse = lock_purse(invoice.org_ref)
    _post_invoice(TransactionKind.INVOICE, invoice, purse, amount)
    # After the posting: the floor must not rise before the balance did.
    _owe(purse, amount)
    invoice.finalized_at = now()
    invoice.state = InvoiceState.OPEN
    key = f"inv:{invoice.id}:pay"
    intend(CallKind.INVOICE_PAY, key=key, subject=invoice.id, org_ref=invoice.org_ref)


def _pay(invoice: Invoice, payments: tuple[PaymentFact, ...]) -> None:
    if invoice.state not in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE):
        return
    received = [fact for fact in payments if fact.state == PaymentState.SUCCEEDED]
    if sum(fact.amount_minor for fact in received) != owed_minor(invoice):
        alarm(invoice.id, "Paid at Stripe by other means than its own payments: book it by hand.")
        invoice.refresh_from_db(fields=["alarm"])
        return
    receivable = account(AccountKind.INVOICE_AR, invoice.org_ref)
    for fact in received:
        payment = locked_payment(fact, org_ref=invoice.org_ref, kind="invoice", invoice=invoice)
        if payment.txn_id is None:
            amount = from_minor(fact.amount_minor)
            if invoice.written_off_at is not None:
                bad_debt.book_back(invoice, payment, amount)
            book(payment, TransactionKind.INVOICE_PAYMENT, (receivable, amount))
            if invoice.written_off_at is None:
                _owe(lock_purse(invoice.org_ref), -amount)
        settle_payment(payment, fact)
    invoice.state, invoice.paid_at, invoice.alarm = InvoiceState.PAID, now(), ""


def _void(invoice: Invoice) -> None:
    """Voided at Stripe: what it had taken out of the balance is owed there again."""
    if invoice.state in (InvoiceState.PAID, InvoiceState.VOID):
        return
    if invoice.written_off_at is not None:
        alarm(invoice.id, "Voided at Stripe after it was written off: it stays a loss here.")
        invoice.refresh_from_db(fields=["alarm"])
    elif invoice.finalized_at is not None:
        amount = from_minor(owed_minor(invoice))
        purse = lock_purse(invoice.org_ref)
        # Before the posting: the balance must not fall before the floor did.
        _owe(purse, -amount)
        _post_invoice(TransactionKind.INVOICE_VOID, invoice, purse, -amount)
    invoice.state = InvoiceState.VOID


def _post_invoice(kind: TransactionKind, invoice: Invoice, purse: Purse, amount: int) -> None:
    receivable = account(AccountKind.INVOICE_AR, invoice.org_ref)
    legs = ((purse.tenant, amount), (receivable, -amount))
    post([Entry(kind, CauseType.INVOICE, invoice.id, legs)])


def _owe(purse: Purse, amount: int) -> None:
    """Unpaid invoices use up the credit limit: they raise the floor by what they ask for."""
    Account.objects.filter(id=purse.tenant).update(receivable_micro=F("receivable_micro") + amount)


def _locked(invoice_id: UUID) -> Invoice:
    return Invoice.objects.select_for_update().get(id=invoice_id)
