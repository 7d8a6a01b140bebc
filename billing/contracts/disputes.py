"""Disputes as they cross the door. Amounts are micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID


class DisputeState(StrEnum):
    """Stripe's own names. A warning is an inquiry: no money has moved yet."""

    WARNING_NEEDS_RESPONSE = "warning_needs_response"
    WARNING_UNDER_REVIEW = "warning_under_review"
    WARNING_CLOSED = "warning_closed"
    NEEDS_RESPONSE = "needs_response"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"
    PREVENTED = "prevented"


# Nothing can be done or is decided any more.
CLOSED: Final = frozenset(
    {
        DisputeState.WARNING_CLOSED,
        DisputeState.WON,
        DisputeState.LOST,
        DisputeState.PREVENTED,
    }
)
# An open inquiry.
INQUIRY: Final = frozenset({DisputeState.WARNING_NEEDS_RESPONSE, DisputeState.WARNING_UNDER_REVIEW})
# Evidence is asked for.
ANSWERABLE: Final = frozenset({DisputeState.WARNING_NEEDS_RESPONSE, DisputeState.NEEDS_RESPONSE})


@dataclass(frozen=True)
class DisputeView:
    id: UUID
    org_ref: UUID
    stripe_id: str
    payment: str  # Stripe's id of the payment
    state: DisputeState
    reason: str
    amount_micro: int
    currency: str
    due_by: datetime | None  # until when evidence is taken
    ordered_at: datetime | None  # when staff submitted it here
    submitted_at: datetime | None  # when Stripe had it
    failure: str  # why Stripe refused the evidence
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class EvidenceView:
    """Texts for Stripe, composed from the ledger; plain, in Stripe's own fields."""

    customer_name: str
    customer_email_address: str
    product_description: str
    access_activity_log: str
    uncategorized_text: str
