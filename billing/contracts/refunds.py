"""Refunds and the other corrections as they cross the door. Amounts are micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class RefundState(StrEnum):
    WAITING = "waiting"  # a second person has to approve it; nothing has moved
    PENDING = "pending"  # ordered and out of the balance, not confirmed for all its parts
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"  # some payments could not be refunded; that part is back in the balance
    FAILED = "failed"  # all of it is back in the balance


@dataclass(frozen=True)
class RefundPart:
    """What is refunded of one payment. payment: Stripe's id of it."""

    payment: str
    amount_micro: int
    state: str  # pending, succeeded, failed, canceled
    failure: str


@dataclass(frozen=True)
class RefundView:
    id: UUID
    org_ref: UUID
    amount_micro: int
    currency: str
    state: RefundState
    reason: str
    ordered_by: str
    approved_by: str
    parts: tuple[RefundPart, ...]  # newest payment first; empty while it waits
    created_at: datetime


@dataclass(frozen=True)
class CreditNoteView:
    id: UUID
    org_ref: UUID
    invoice_id: UUID
    amount_micro: int
    currency: str
    state: str  # waiting, pending, succeeded, failed
    number: str | None  # Stripe's
    failure: str
    reason: str
    ordered_by: str
    approved_by: str
    created_at: datetime


@dataclass(frozen=True)
class AdjustmentView:
    """amount_micro: what the organization gets, or pays if negative."""

    id: UUID
    org_ref: UUID
    amount_micro: int
    currency: str
    state: str  # waiting, done
    against: str  # platform_cost or revenue
    linked: UUID | None
    reason: str
    ordered_by: str
    approved_by: str
    created_at: datetime


@dataclass(frozen=True)
class PromotionView:
    """left_micro: what of it is not spent; it counts as spent before anything bought."""

    id: UUID
    org_ref: UUID
    amount_micro: int
    left_micro: int
    currency: str
    state: str  # waiting, active, expired
    expires_at: datetime
    reason: str
    ordered_by: str
    approved_by: str
    created_at: datetime


@dataclass(frozen=True)
class FraudView:
    """Counts over the whole life of an organization."""

    org_ref: UUID
    failed_attempts: int  # top-ups and card charges that did not succeed
    cards: int  # saved ones, detached ones included
    disputes: int
    refunds: int  # orders and refunds by hand
    first_settled_at: datetime | None  # its first payment that came in
