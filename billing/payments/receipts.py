"""Receipts: which payments still lack one, and what it says.

The mark is on the payment's own row. A cursor over a sequence would pass payments whose
transaction commits late.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Sum

from billing.contracts.receipts import PaidView, ReceiptView
from billing.models import Account, AccountKind, InvoiceLine, Payment, Posting
from kernel.clock import now
from kernel.errors import NotFound
from kernel.money import from_minor


def take_paid(*, limit: int) -> list[PaidView]:
    """Settled payments without a receipt, marked; rows that another takes are left to it."""
    waiting = Payment.objects.filter(txn__isnull=False, receipt_at__isnull=True)
    rows = list(waiting.select_for_update(skip_locked=True, of=("self",)).order_by("id")[:limit])
    Payment.objects.filter(id__in=[row.id for row in rows]).update(receipt_at=now())
    return [PaidView(row.id, row.org_ref) for row in rows]


def receipt(*, payment_id: UUID) -> ReceiptView:
    """From the ledger: the transaction that booked the payment, and the balance after it."""
    row = Payment.objects.select_related("txn", "invoice").filter(id=payment_id).first()
    if row is None or row.txn is None:
        raise NotFound("payment")
    reference = row.topup_id or row.invoice_id
    assert reference is not None, "billing_payment_purpose"
    return ReceiptView(
        payment_id=row.id,
        org_ref=row.org_ref,
        kind=row.kind,
        reference=reference,
        number=row.invoice.number if row.invoice else None,
        paid_at=row.txn.at,
        amount_micro=from_minor(row.amount_minor),
        tax_micro=_tax(row),
        currency=row.currency,
        card_brand=row.card_brand,
        card_last4=row.card_last4,
        balance_micro=_balance_after(row),
    )


def _tax(payment: Payment) -> int:
    """What of it is tax: of credit its own leg; an invoice's tax was booked with the use."""
    if payment.invoice_id is not None:
        lines = InvoiceLine.objects.filter(invoice=payment.invoice_id)
        return from_minor(lines.aggregate(Sum("tax_minor"))["tax_minor__sum"] or 0)
    legs = Posting.objects.filter(txn=payment.txn_id, account__kind=AccountKind.TAX_PAYABLE)
    return legs.aggregate(Sum("amount_micro"))["amount_micro__sum"] or 0


def _balance_after(payment: Payment) -> int:
    """What the tenant has now, less all that moved since: postings are never changed, so a receipt
    sent twice says the same twice."""
    account = Account.objects.get(
        kind=AccountKind.TENANT, owner_ref=payment.org_ref, currency=payment.currency
    )
    later = Posting.objects.filter(account=account, txn__gt=payment.txn_id)
    moved = later.aggregate(Sum("amount_micro"))["amount_micro__sum"] or 0
    return (account.balance_micro or 0) - moved
