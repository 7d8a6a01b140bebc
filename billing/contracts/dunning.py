"""Invoices past their date, as they cross the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class OverdueView:
    """An unpaid invoice past its date. hosted_url: where it can be paid."""

    id: UUID
    org_ref: UUID
    number: str
    total_minor: int
    due_at: datetime
    hosted_url: str | None
    written_off: bool


@dataclass(frozen=True)
class WriteOffView:
    """An invoice booked as a loss. collected_micro: what came of it afterwards."""

    invoice_id: UUID
    org_ref: UUID
    number: str
    amount_micro: int
    at: datetime
    collected_micro: int
    collected_at: datetime | None
