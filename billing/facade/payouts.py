"""Providers' money: payout accounts, runs, statements. Amounts are micro-units of USD.

Calls marked "in a transaction" join the caller's. Who may ask is the caller's business; actors are
names for the record.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from billing.contracts.payouts import (
    EarnedStretches,
    EarningsDay,
    PayoutAccountView,
    PayoutPreview,
    PayoutRunView,
    PayoutView,
    ReviewView,
    StatementView,
)
from billing.payouts import account as _account
from billing.payouts import plan as _plan
from billing.payouts import reads as _reads
from billing.payouts import review as _review
from billing.payouts import run as _run
from billing.payouts import statement as _statement


def earnings_days(*, provider_ref: UUID, from_at: datetime, to_at: datetime) -> list[EarningsDay]:
    """Shares of the use in [from_at, to_at), per day and card type, oldest first."""
    return _reads.earnings_days(provider_ref=provider_ref, from_at=from_at, to_at=to_at)


def earned_stretches(*, provider_ref: UUID, from_at: datetime, to_at: datetime) -> EarnedStretches:
    """The same of cards alone, by the proven stretch that was charged: whose sums are equal."""
    return _reads.earned_stretches(provider_ref=provider_ref, from_at=from_at, to_at=to_at)


def payouts(*, provider_ref: UUID) -> list[PayoutView]:
    """A provider's payouts, newest first."""
    return _reads.payouts(provider_ref=provider_ref)


def ended(*, since: datetime) -> list[PayoutView]:
    """Every provider's payouts of runs made since then that were paid, or failed."""
    return _reads.ended(since=since)


def earners(*, since: datetime) -> list[UUID]:
    """Providers with a share of use that was charged after this moment."""
    return _reads.earners(since=since)


def first_statement_at(*, provider_ref: UUID) -> datetime | None:
    """Since when there are statements; None before a provider's first share."""
    return _statement.first_at(provider_ref=provider_ref)


def statement(*, provider_ref: UUID, month: date) -> StatementView:
    """A provider's month; NotFound before its first share and for a month to come."""
    return _statement.statement(provider_ref=provider_ref, month=month)


def open_account_page(
    *, provider_ref: UUID, name: str, email: str, country: str, return_url: str
) -> PayoutAccountView:
    """In a transaction: order Stripe's page for the provider's payout account, and the account
    itself the first time. For an account that works it holds payouts for three days."""
    return _account.open_page(
        provider_ref=provider_ref, name=name, email=email, country=country, return_url=return_url
    )


def payout_account(*, provider_ref: UUID) -> PayoutAccountView:
    """The payout account; NotFound when none was ever asked for."""
    return _account.account(provider_ref=provider_ref)


def preview() -> PayoutPreview:
    """Cash at Stripe against all that is owed, and what a run now would pay to whom."""
    return _plan.preview()


def make_run(*, actor: str, sole: bool) -> PayoutRunView:
    """In a transaction: a member of staff starts a run, which waits where it is large.

    ``sole``: there is no second one. Refusal invalid_transition: nothing to pay, one waits, breaks.
    """
    return _run.make_run(actor=actor, person=True, sole=sole)


def approve_run(*, run_id: UUID, actor: str, sole: bool) -> PayoutRunView:
    """In a transaction: one more member of staff agrees; Refusal invalid_transition, NotFound."""
    return _run.approve(run_id=run_id, actor=actor, sole=sole)


def cancel_run(*, run_id: UUID, reason: str = "") -> PayoutRunView:
    """In a transaction: give up a run that waits; what is due stays due."""
    return _run.cancel(run_id=run_id, reason=reason)


def wait_for_second() -> int:
    """In a transaction: runs that were to start after a day, since the staff had one member only,
    wait for whoever joined; how many."""
    return _run.wait_for_second()


def runs() -> list[PayoutRunView]:
    """Payout runs, newest first."""
    return _reads.runs()


def run(*, run_id: UUID) -> PayoutRunView:
    """One run with its lines; NotFound."""
    return _reads.run(run_id=run_id)


def hold(*, provider_ref: UUID, actor: str, reason: str) -> bool:
    """In a transaction: pay a provider nothing until released; False when it is held already."""
    return _run.hold(provider_ref=provider_ref, actor=actor, reason=reason)


def release(*, provider_ref: UUID, actor: str) -> bool:
    """In a transaction: end a provider's hold; False when there is none."""
    return _run.release(provider_ref=provider_ref, actor=actor)


def reviews() -> list[ReviewView]:
    """Renters without a settled payment, whose use does not mature for its providers."""
    return _review.reviews()


def release_review(*, org_ref: UUID, actor: str, note: str) -> bool:
    """In a transaction: let a renter's use mature; False when it did already, NotFound when it
    never used anything."""
    return _review.release(org_ref=org_ref, actor=actor, note=note)
