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
