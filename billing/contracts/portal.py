"""A visit to Stripe's own pages for cards and invoices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.contracts import PaymentState


@dataclass(frozen=True)
class PortalSessionView:
    """state: pending, open, failed, or canceled once it expired; url only while it is open."""

    id: UUID
    state: PaymentState
    url: str | None
    expires_at: datetime | None
    failure: str | None
    created_at: datetime
