"""Providers' money as it crosses the door. Amounts are integers in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from kernel.arrays import Array


class AccountState(StrEnum):
    PENDING = "pending"  # intent stored, Stripe not answered yet
    ONBOARDING = "onboarding"  # Stripe asks for details before it lets money in
    ACTIVE = "active"  # transfers arrive
    RESTRICTED = "restricted"  # was active; Stripe stopped it until it is told more
    FAILED = "failed"  # Stripe refused to open it


class RunState(StrEnum):
    WAITING = "waiting"  # for approval, or for its time
    STARTED = "started"
    CANCELED = "canceled"


class LineState(StrEnum):
    PLANNED = "planned"  # its run has not started
    CLEARING = "clearing"  # taken out of what is due, Stripe not asked or not answered yet
    SENT = "sent"  # the transfer is made; Stripe pays it on to the bank
    PAID = "paid"  # Stripe says that the bank has it
    FAILED = "failed"  # the bank refused; the transfer is being taken back
    RETURNED = "returned"  # due again
    CANCELED = "canceled"  # never began


@dataclass(frozen=True)
class EarningsView:
    """A provider's shares by how far they are on their way."""

    provider_ref: UUID
    currency: str
    pending_micro: int  # maturing; below zero: more was taken back than matures
    on_review_micro: int  # the part of it from renters that staff have to look at first
    due_micro: int
    reserve_micro: int  # the part of it kept back in a provider's first months
    clearing_micro: int  # on its way to Stripe
    paid_micro: int  # sent, less what came back
    next_run_at: datetime
    next_micro: int  # what that run would pay; 0 while something stands against it
    blocked_by: tuple[str, ...]


@dataclass(frozen=True)
class EarningsDay:
    """Shares of one day (UTC, by use) and card type, or of disks."""

    day: date
    kind: str  # gpu, disk
    accelerator: str
    unit_seconds: int  # GPU-seconds; GiB-seconds of disks
    share_micro: int


@dataclass(frozen=True)
class EarnedStretches:
    """Shares of the use of cards, one per proven stretch and day (UTC, by use), as columns.

    source_refs: the stretches; seconds: of each of its gpus."""

    count: int
    source_refs: Array
    days: Array
    gpus: Array
    seconds: Array
    shares_micro: Array


@dataclass(frozen=True)
class PayoutAccountView:
    provider_ref: UUID
    state: AccountState
    email: str
    url: str | None  # Stripe's page; None until it is there, and when it has expired
    preparing: bool  # the page is ordered, and Stripe has not answered
    requirements: tuple[str, ...]
    failure: str
    held_until: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class PayoutView:
    id: UUID
    run_id: UUID
    provider_ref: UUID
    state: LineState
    amount_micro: int
    due_micro: int
    reserve_micro: int
    returned_micro: int
    currency: str
    reason: str
    stripe_id: str | None
    expected_at: datetime
    created_at: datetime
    sent_at: datetime | None
    paid_at: datetime | None


@dataclass(frozen=True)
class PayoutRunView:
    id: UUID
    state: RunState
    week: date | None
    actor: str
    total_micro: int
    currency: str
    approvals: tuple[str, ...]
    approvals_needed: int
    starts_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    lines: tuple[PayoutView, ...]


@dataclass(frozen=True)
class PlannedView:
    """What a run now would pay to one provider, and why not more."""

    provider_ref: UUID
    due_micro: int
    reserve_micro: int
    amount_micro: int  # 0 while something stands against it
    held: bool  # by staff
    blocked_by: tuple[str, ...]


@dataclass(frozen=True)
class PayoutPreview:
    """Cash at Stripe, as read last, against all that is owed; and what a run now would pay."""

    currency: str
    cash_available_micro: int | None  # None: never read
    cash_pending_micro: int | None
    cash_read_at: datetime | None
    owed_tenants_micro: int
    owed_providers_micro: int
    owed_tax_micro: int
    total_micro: int
    approvals_needed: int
    expected_at: datetime
    blocked_by: tuple[str, ...]  # against all of them
    providers: tuple[PlannedView, ...]

    @property
    def owed_micro(self) -> int:
        """To everybody together."""
        return self.owed_tenants_micro + self.owed_providers_micro + self.owed_tax_micro


@dataclass(frozen=True)
class ReviewView:
    """A renter whose use does not mature until staff have looked at it, or it has paid."""

    org_ref: UUID
    share_micro: int  # of all its providers
    first_use_at: datetime
    paid_micro: int  # what it paid us so far, however recently


@dataclass(frozen=True)
class StatementLine:
    at: datetime
    kind: str
    text: str
    amount_micro: int


@dataclass(frozen=True)
class StatementView:
    """A provider's month: what it had with us, maturing and due together."""

    provider_ref: UUID
    month: date
    currency: str
    opening_micro: int
    shares_micro: int
    credits_micro: int  # given back to renters out of its shares, and adjustments
    payouts_micro: int  # negative; less what came back
    closing_micro: int
    final: bool  # the month is over
    lines: tuple[StatementLine, ...]
