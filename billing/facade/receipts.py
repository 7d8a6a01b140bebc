"""Billing's door to receipts. It knows no mail: whoever writes receipts asks for what was paid."""

from __future__ import annotations

from uuid import UUID

from billing.contracts.receipts import PaidView, ReceiptView
from billing.payments import receipts as _receipts


def take_paid(*, limit: int) -> list[PaidView]:
    """In a transaction: payments that arrived and were never taken; marked as taken, each once."""
    return _receipts.take_paid(limit=limit)


def receipt(*, payment_id: UUID) -> ReceiptView:
    """What the receipt of a settled payment says, today as on the first day; NotFound."""
    return _receipts.receipt(payment_id=payment_id)
