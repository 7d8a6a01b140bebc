"""What an invoice's document is written from. Exact amounts in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.contracts import InvoiceState
from billing.contracts.tax import TaxId


@dataclass(frozen=True)
class SellerShare:
    """What of a line is use of one provider's cards."""

    provider_ref: UUID
    amount_micro: int


@dataclass(frozen=True)
class DocumentLine:
    """amount_minor is what is asked for, in cents; amount_micro what was used, exactly."""

    text: str
    quantity: str  # GPU-hours or GiB-hours, a decimal string
    amount_micro: int
    amount_minor: int
    sellers: tuple[SellerShare, ...]
    tax_ppm: int = 0
    tax_micro: int = 0
    tax_minor: int = 0


@dataclass(frozen=True)
class InvoiceDocument:
    """carried_in_micro + the lines + tax - carried_micro is the total, to the micro-unit."""

    id: UUID
    buyer: str
    buyer_email: str
    number: str | None  # None: a draft
    state: InvoiceState
    currency: str
    period_from: datetime
    period_to: datetime
    issued_at: datetime | None
    paid_at: datetime | None
    lines: tuple[DocumentLine, ...]
    carried_in_micro: int
    carried_micro: int
    tax_micro: int
    total_minor: int
    tax_reason: str = ""  # Stripe's word; "" where no tax is due on use
    buyer_tax_ids: tuple[TaxId, ...] = ()
