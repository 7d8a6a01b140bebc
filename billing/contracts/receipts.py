"""What a payer is told about a payment that arrived. Amounts in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class PaidView:
    """A payment that arrived and has no receipt yet."""

    payment_id: UUID
    org_ref: UUID


@dataclass(frozen=True)
class ReceiptView:
    payment_id: UUID
    org_ref: UUID
    kind: str  # topup, invoice
    reference: UUID  # the top-up or the invoice
    number: str | None  # of the invoice
    paid_at: datetime
    amount_micro: int
    tax_micro: int  # the part of it that is tax
    currency: str
    card_brand: str  # empty when no card paid
    card_last4: str
    balance_micro: int  # what could be spent right after it, without what rentals hold

    @property
    def net_micro(self) -> int:
        """What of it was for credit or use."""
        return self.amount_micro - self.tax_micro
