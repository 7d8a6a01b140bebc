"""What we learned from Stripe about money that goes back: plain values, made by the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.contracts import PaymentState
from billing.contracts.disputes import DisputeState


@dataclass(frozen=True)
class RefundFact:
    """A refund. payment: Stripe's id of the PaymentIntent. moved: our balance there was debited."""

    stripe_id: str
    payment: str
    state: PaymentState  # pending, succeeded, failed, canceled
    amount_minor: int
    currency: str  # upper case
    moved: bool
    failure: str


@dataclass(frozen=True)
class DisputeFact:
    """A dispute. What moved is read from its balance transactions: an inquiry has none.

    fee_minor: what Stripe took for it; fee_back_minor: what it gave back of that.
    """

    stripe_id: str
    payment: str
    state: DisputeState
    reason: str
    amount_minor: int
    currency: str
    withdrawn_minor: int
    reinstated_minor: int
    fee_minor: int
    fee_back_minor: int
    due_by: datetime | None
    submitted: bool


@dataclass(frozen=True)
class CreditNoteFact:
    """A credit note. invoice: Stripe's id. total_minor: what it takes off the invoice."""

    stripe_id: str
    invoice: str
    total_minor: int
    currency: str
    number: str
    void: bool
