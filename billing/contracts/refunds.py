"""Refunds and the other corrections as they cross the door. Amounts are micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class OrderKind(StrEnum):
    """What staff order about an organization's money; the names of their ids (kernel.ids)."""

    REFUND = "refund"
    CREDIT_NOTE = "credit_note"
    ADJUSTMENT = "adjustment"
    PROMOTION = "promotion"


class RefundState(StrEnum):
    WAITING = "waiting"  # a second person has to approve it; nothing has moved
    DECLINED = "declined"  # nothing has moved and nothing will
    PENDING = "pending"  # ordered and out of the balance, not confirmed for all its parts
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"  # some payments could not be refunded; that part is back in the balance
    FAILED = "failed"  # all of it is back in the balance


@dataclass(frozen=True, kw_only=True)
class OrderView:
    """What all kinds have in common. state: ``waiting`` for a second person, ``declined``, or how
    far it is. alone: carried out by whoever ordered it, a day later (``alone_from``), because there
    was nobody else."""

    id: UUID
    org_ref: UUID
    amount_micro: int
    currency: str
    state: str
    reason: str
    ordered_by: str
    approved_by: str
    alone: bool
    alone_from: datetime
    declined_by: str
    declined_for: str
    created_at: datetime


@dataclass(frozen=True)
class RefundPart:
    """What is refunded of one payment. payment: Stripe's id of it."""

    payment: str
    amount_micro: int
    state: str  # pending, succeeded, failed, canceled
    failure: str


@dataclass(frozen=True, kw_only=True)
class RefundView(OrderView):
    state: RefundState
    parts: tuple[RefundPart, ...]  # newest payment first; empty while it waits


@dataclass(frozen=True, kw_only=True)
class CreditNoteView(OrderView):
    """state: also pending, succeeded, failed."""

    invoice_id: UUID
    number: str | None  # Stripe's
    failure: str


@dataclass(frozen=True, kw_only=True)
class AdjustmentView(OrderView):
    """amount_micro: what the organization gets, or pays if negative. state: also done."""

    against: str  # platform_cost or revenue
    linked: UUID | None


@dataclass(frozen=True, kw_only=True)
class PromotionView(OrderView):
    """left_micro: what of it is not spent; it counts as spent before anything bought. state: also
    active, expired."""

    left_micro: int
    expires_at: datetime


@dataclass(frozen=True)
class FraudView:
    """Counts over the whole life of an organization."""

    org_ref: UUID
    failed_attempts: int  # top-ups and card charges that did not succeed
    cards: int  # saved ones, detached ones included
    disputes: int
    refunds: int  # orders and refunds by hand
    first_settled_at: datetime | None  # its first payment that came in
