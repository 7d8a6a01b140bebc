"""Billing's door: the only module, with contracts, that other areas may import.

Nothing behind this door talks to Stripe: intents are rows, executed later by a loop. Calls marked
"in a transaction" join the caller's and leave the commit to it. Amounts are micro-units of USD.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from billing.contracts import (
    BalanceView,
    BooksView,
    CardSetupView,
    ChargeView,
    HoldMoveView,
    HoldView,
    InvoiceView,
    LastingView,
    PaymentMethodView,
    PriceTerms,
    StripeMode,
    TopUpView,
    TransactionView,
    UnknownObjectView,
    UsageWindows,
)
from billing.contracts.payouts import EarningsView
from billing.invoicing import close_period as _close
from billing.invoicing import reads as _invoices
from billing.ledger import statement as _statement
from billing.metering import credit as _credit
from billing.metering import history as _history
from billing.metering import hold as _hold
from billing.metering import outage as _outage
from billing.metering import reads as _reads
from billing.metering import runway as _runway
from billing.metering import sweep as _sweep
from billing.metering import usage as _usage
from billing.metering import vitals as _vitals
from billing.payments import cards as _cards
from billing.payments import mode as _mode
from billing.payments import tenants as _tenants
from billing.payments import topup as _topup
from billing.payments import unknown as _unknown
from billing.payments import webhook as _webhook
from billing.payouts import reads as _payouts
from billing.reconciliation import ledger as _books
from kernel.vitals import Vital


def open_tenant(*, org_ref: UUID, email: str, name: str) -> None:
    """In a transaction: accounts and a Stripe customer for an organization. Idempotent."""
    _tenants.open_tenant(org_ref=org_ref, email=email, name=name)


def set_credit_limit(*, org_ref: UUID, limit_micro: int) -> None:
    """In a transaction: post-paid down to -limit, 0 for prepaid. InvalidRequest below the debt."""
    _tenants.set_credit_limit(org_ref=org_ref, limit_micro=limit_micro)


def balance(*, org_ref: UUID) -> BalanceView:
    """What the organization has, holds, may spend, burns, and until when that lasts."""
    return _reads.balance(org_ref=org_ref)


def balances(*, org_refs: Collection[UUID]) -> dict[UUID, BalanceView]:
    """`balance` of several organizations; two queries, whatever their number."""
    return _reads.balances(org_refs=org_refs)


def lasting(*, rental_refs: Sequence[UUID]) -> dict[UUID, LastingView]:
    """By organization: until when its money lasts if exactly these of its rentals run. For all of
    an organization's rentals at once; two queries, whatever their number."""
    return _runway.lasting(rental_refs=rental_refs)


def hold(*, org_ref: UUID, rental_ref: UUID, terms: PriceTerms) -> HoldView:
    """In a transaction, as its last lock: hold the first hour of a rental.

    Refusal("insufficient_funds", needed, available, topup_url) past the floor. Idempotent; after
    ``end_rental`` it holds anew, at the price fixed first.
    """
    return _hold.hold(org_ref=org_ref, rental_ref=rental_ref, terms=terms)


def check_affordable(*, org_ref: UUID, price_micro_h: int) -> None:
    """In a transaction: Refusal("insufficient_funds") when an hour at this price could not be
    held now. Nothing is held."""
    _hold.check_affordable(org_ref=org_ref, price_micro_h=price_micro_h)


def meter_started(*, rental_ref: UUID, at: datetime) -> None:
    """In a transaction: the rental runs, and uses up its hold, from ``at`` on. Idempotent."""
    _hold.meter_started(rental_ref=rental_ref, at=at)


def meter_stopped(*, rental_ref: UUID) -> None:
    """In a transaction: the rental runs no more; windows may still follow. Idempotent."""
    _hold.meter_stopped(rental_ref=rental_ref)


def meters_stopped(*, rental_refs: Sequence[UUID]) -> None:
    """The same for many, in one statement."""
    _hold.meters_stopped(rental_refs=rental_refs)


def end_rental(*, rental_ref: UUID) -> None:
    """In a transaction, after the last window: return the rest of the hold. Idempotent; nothing
    for a rental that never held."""
    _hold.end_rental(rental_ref=rental_ref)


def post_usage(*, windows: UsageWindows) -> int:
    """In a transaction: charge what is new in ``windows`` and refill holds; the lines written.

    Windows charged before are cut or skipped, so a repetition costs nothing. ValueError for a
    window that breaks the contract; nothing of the batch is stored then.
    """
    return _usage.post_usage(windows=windows)


def credit(*, rental_ref: UUID, from_at: datetime, to_at: datetime, by_provider: bool) -> int:
    """In a transaction: give back what was charged for a stretch; the amount. Idempotent per last
    charge of the stretch. ``by_provider``: its share bears it, else the platform all of it."""
    return _credit.credit(
        rental_ref=rental_ref, from_at=from_at, to_at=to_at, by_provider=by_provider
    )


def outage(
    *, case_ref: UUID, rental_ref: UUID, from_at: datetime, to_at: datetime, by_provider: bool
) -> int:
    """In a transaction: credit an interruption up to ``to_at``, at most a day; the whole of it.

    Repeating it adds nothing. ``by_provider``: its owner bears it, up to what the rental brought it
    in the day before; the platform bears the rest.
    """
    return _outage.outage(
        case_ref=case_ref,
        rental_ref=rental_ref,
        from_at=from_at,
        to_at=to_at,
        by_provider=by_provider,
    )


def outage_seconds(*, case_refs: Sequence[UUID]) -> dict[UUID, int]:
    """How far interruptions are credited, for those that are at all."""
    return _outage.credited_seconds(case_refs=case_refs)


def provider_gap(*, case_ref: UUID, rental_ref: UUID, seconds: int) -> int:
    """In a transaction: the owner's share of a gap of our making, once per case; what was paid."""
    return _outage.provider_gap(case_ref=case_ref, rental_ref=rental_ref, seconds=seconds)


def exhausted(*, limit: int) -> list[UUID]:
    """Running rentals that nothing pays any more, soonest first; refills those it can."""
    return _sweep.exhausted(limit=limit)


def running_out(*, within: timedelta, limit: int) -> dict[UUID, datetime]:
    """Running rentals whose money ends within that time, and when; refills those it can."""
    return _sweep.running_out(within=within, limit=limit)


def start_topup(
    *,
    org_ref: UUID,
    amount_micro: int,
    return_url: str,
    payment_method_id: UUID | None = None,
    ip: str | None = None,
) -> TopUpView:
    """In a transaction: a top-up on Stripe's page, or at once with a saved card.

    InvalidRequest for an amount that is not 5 to 10,000 USD in whole cents; Refusal("rate_limited")
    after too many attempts by the organization, from ``ip`` or with the card.
    """
    return _topup.start_topup(
        org_ref=org_ref,
        amount_micro=amount_micro,
        return_url=return_url,
        payment_method_id=payment_method_id,
        ip=ip,
    )


def topup(*, org_ref: UUID, topup_id: UUID) -> TopUpView:
    """One top-up; NotFound for another organization's."""
    return _topup.topup(org_ref=org_ref, topup_id=topup_id)


def topups(*, org_ref: UUID) -> list[TopUpView]:
    """All top-ups, newest first."""
    return _topup.topups(org_ref=org_ref)


def start_card_setup(*, org_ref: UUID, return_url: str, ip: str | None = None) -> CardSetupView:
    """In a transaction: a visit to Stripe's page that saves a card. Refusal("rate_limited") after
    too many attempts by the organization or from ``ip``."""
    return _cards.start_card_setup(org_ref=org_ref, return_url=return_url, ip=ip)


def card_setup(*, org_ref: UUID, setup_id: UUID) -> CardSetupView:
    """One card setup; NotFound for another organization's."""
    return _cards.card_setup(org_ref=org_ref, setup_id=setup_id)


def payment_methods(*, org_ref: UUID) -> list[PaymentMethodView]:
    """Saved cards, newest first; the newest active one is the default."""
    return _cards.payment_methods(org_ref=org_ref)


def transactions(*, org_ref: UUID, limit: int, after: UUID | None = None) -> list[TransactionView]:
    """The statement, newest first; ``after`` is the last id of the page before."""
    return _statement.transactions(org_ref=org_ref, limit=limit, after=after)


def charges(*, rental_ref: UUID) -> list[ChargeView]:
    """A rental's charges, oldest first."""
    return _reads.charges(rental_ref=rental_ref)


def charges_of(
    *,
    rental_refs: Sequence[UUID],
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    limit: int | None = None,
) -> list[ChargeView]:
    """Charges of several rentals that overlap [from_at, to_at), newest first."""
    return _reads.charges_of(rental_refs=rental_refs, from_at=from_at, to_at=to_at, limit=limit)


def charge(*, charge_id: UUID) -> ChargeView:
    """One charge; the caller checks by its rental whose it is."""
    return _reads.charge(charge_id=charge_id)


def spent(*, rental_refs: Sequence[UUID]) -> dict[UUID, int]:
    """What the renter was charged so far, per rental."""
    return _reads.spent(rental_refs=rental_refs)


def close_period(*, org_ref: UUID, actor: str, up_to: datetime | None = None) -> InvoiceView:
    """In a transaction: invoice every charge until ``up_to`` that is on no invoice yet.

    Refusal("invalid_transition") when there is too little, or no credit limit.
    """
    return _close.close_period(org_ref=org_ref, actor=actor, up_to=up_to)


def invoices(*, org_ref: UUID) -> list[InvoiceView]:
    """All invoices, newest first."""
    return _invoices.invoices(org_ref=org_ref)


def invoice(*, org_ref: UUID, invoice_id: UUID) -> InvoiceView:
    """One invoice; NotFound for another organization's."""
    return _invoices.invoice(org_ref=org_ref, invoice_id=invoice_id)


def earnings(*, provider_ref: UUID) -> EarningsView:
    """A provider's shares by how far they are on their way to it, and the next payout."""
    return _payouts.earnings(provider_ref=provider_ref)


def receive_webhook(*, payload: bytes, signature: str) -> None:
    """Store a webhook's event once; Refusal("malformed") unless Stripe signed it."""
    _webhook.receive(payload=payload, signature=signature)


def books() -> BooksView:
    """The ledger's own checks: ``balanced`` when nothing breaks a rule."""
    return _books.books()


def unknown_objects() -> list[UnknownObjectView]:
    """Objects at Stripe that carry our metadata and name no row of ours, oldest first."""
    return _unknown.unknown_objects()


def look_before_sending() -> int:
    """In a transaction, after a restore: waiting intents look at Stripe first; how many."""
    return _unknown.look_before_sending()


def vitals() -> list[Vital]:
    """How billing fares: what waits for Stripe, or came from it and is not applied."""
    return _vitals.vitals()


def stripe_mode() -> StripeMode:
    """Which Stripe the platform is set to talk to."""
    return _mode.stripe_mode()


def hold_moves(*, rental_ref: UUID) -> list[HoldMoveView]:
    """What was held for a rental and given back, oldest first."""
    return _history.hold_moves(rental_ref=rental_ref)
