"""What crosses billing's door: plain values. Amounts are integers in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from billing.contracts.meters import MeterKind
from kernel.arrays import Array


class PaymentState(StrEnum):
    PENDING = "pending"  # intent stored, Stripe not answered yet
    OPEN = "open"  # waits for the payer (checkout page, authentication)
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class InvoiceState(StrEnum):
    DRAFT = "draft"  # lines fixed here, being written at Stripe
    OPEN = "open"  # finalized at Stripe, total verified
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


@dataclass(frozen=True)
class PriceTerms:
    """The price snapshot of a rental, fixed when it is rented, or of a disk at one size.

    price_micro_h: for all GPUs, or the whole disk, per hour. provider_micro_h: the owner's share.
    """

    currency: str
    gpus: int  # a disk's GiB
    price_micro_h: int
    provider_micro_h: int
    provider_ref: UUID
    accelerator: str  # slug: the mirror at Stripe aggregates by card type; a disk: what a GiB costs
    description: str  # "2 x NVIDIA H100 80GB SXM, fra-1": the line on an invoice
    kind: MeterKind = MeterKind.GPU


@dataclass(frozen=True)
class BalanceView:
    currency: str
    available_micro: int  # tenant account; negative for a post-paid debtor
    held_micro: int
    credit_limit_micro: int  # 0: prepaid
    spendable_micro: int  # available + credit limit
    burn_micro_h: int  # sum of the hourly prices of metered rentals, with the tax on use
    funds_end_at: datetime | None  # None when nothing burns


@dataclass(frozen=True)
class LastingView:
    """How long an organization's money lasts if certain rentals run."""

    post_paid: bool
    ends_at: datetime | None  # None when they are free


@dataclass(frozen=True)
class HoldView:
    rental_ref: UUID
    held_micro: int
    paid_until: datetime | None


@dataclass(frozen=True)
class UsageWindows:
    """Proven-ready windows to charge, each unbroken, whole seconds, inside one UTC hour. Columns of
    equal length."""

    rental_refs: Array
    source_refs: Array  # the ready intervals: evidence
    from_at: Array
    to_at: Array


@dataclass(frozen=True)
class ChargeView:
    id: UUID
    rental_ref: UUID
    source_ref: UUID
    seq: int
    from_at: datetime
    to_at: datetime
    seconds: int
    gpus: int
    price_micro_h: int
    amount_micro: int
    provider_micro: int
    fee_micro: int
    txn_id: UUID
    tax_micro: int = 0  # on top of the amount, where tax is due on use
    overrun_micro: int = 0  # of the amount: no balance covered it, and the platform bears it


@dataclass(frozen=True)
class TransactionView:
    """One ledger transaction as the tenant sees it: its own legs summed."""

    id: UUID
    kind: str
    at: datetime
    amount_micro: int  # effect on available and held together; moves between them are left out
    text: str
    cause_type: str
    cause_id: str


@dataclass(frozen=True)
class TopUpView:
    id: UUID
    org_ref: UUID
    amount_micro: int
    currency: str
    state: PaymentState
    checkout_url: str | None  # None until Stripe created the session
    failure: str | None
    created_at: datetime


@dataclass(frozen=True)
class PaymentMethodView:
    id: UUID
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    state: str  # active, detached


@dataclass(frozen=True)
class CardSetupView:
    id: UUID
    state: PaymentState
    url: str | None  # Stripe's page that saves the card; None until created


@dataclass(frozen=True)
class InvoiceLineView:
    text: str
    quantity: str  # hours, a decimal string
    amount_micro: int
    tax_micro: int = 0


@dataclass(frozen=True)
class InvoiceView:
    id: UUID
    org_ref: UUID
    number: str | None  # Stripe's, from finalization on
    state: InvoiceState
    currency: str
    period_from: datetime
    period_to: datetime
    total_minor: int
    carried_micro: int  # the part of a cent that stays in the tenant account
    lines: tuple[InvoiceLineView, ...]
    hosted_url: str | None
    created_at: datetime
    paid_at: datetime | None
    tax_micro: int = 0  # of all lines, in the total


@dataclass(frozen=True)
class BooksView:
    """The books at a glance; every number but ``transactions`` must be zero."""

    sums: dict[str, int]  # currency -> sum over all postings
    transactions: int
    unbalanced: int  # transactions that do not sum to zero
    drifted: int  # stored balances that differ from their postings
    below_floor: int
    holds_uncovered: int  # tenants whose hold account differs from their rentals' holds
    receivables_wrong: int  # tenants whose unpaid invoices differ from their receivable account

    @property
    def balanced(self) -> bool:
        """True when nothing breaks a rule."""
        return not any(self.sums.values()) and not (
            self.unbalanced
            or self.drifted
            or self.below_floor
            or self.holds_uncovered
            or self.receivables_wrong
        )


@dataclass(frozen=True)
class UnknownObjectView:
    """An object at Stripe with our metadata whose row we do not know; nothing was done about it."""

    stripe_id: str
    type: str
    status: str
    amount_minor: int | None
    currency: str
    customer: str
    names: str  # what it claims to be, e.g. gpuyard_topup
    claimed_ref: UUID
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True)
class HoldMoveView:
    """A move between a tenant's balance and the hold of one rental; negative: given back."""

    txn_id: UUID
    kind: str  # hold, hold_refill, hold_release
    at: datetime
    amount_micro: int


@dataclass(frozen=True)
class StripeMode:
    """Which Stripe the platform talks to."""

    kind: str  # live, test, unknown
    own_address: bool  # Stripe's own, not a stand-in's
