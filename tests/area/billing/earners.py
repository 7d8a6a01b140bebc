"""Providers that earned something, and short ways to what is due to them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from billing import facade
from billing.facade import payouts
from billing.models import AccountKind, Payment, Posting
from billing.payouts import account
from billing.payouts.facts import AccountFact
from billing.reconciliation import ledger
from kernel.ids import new_id
from tests.area.billing.conftest import DAY, USD, credit, open_org, rent, start, use, window

# Settled for long: what this renter uses matures by age alone.
LONG_AGO = DAY - timedelta(days=60)
WEEK = timedelta(days=7)
Clock = Callable[[datetime], None]


def settled_org(at: Clock, *, paid: int = 10_000 * USD) -> UUID:
    """A renter whose payment nobody charged back for sixty days."""
    at(LONG_AGO)
    org = open_org()
    credit(org, paid)
    Payment.objects.filter(org_ref=org).update(created_at=LONG_AGO)
    return org


def earn(at: Clock, org: UUID, provider: UUID, *, share: int, begin: datetime = DAY) -> UUID:
    """One hour of use that earns the provider ``share``; the rental."""
    at(begin + timedelta(hours=1, seconds=5))
    rental = rent(org, provider_ref=provider, price_micro_h=share * 2, provider_micro_h=share)
    start(rental, begin)
    assert use(window(rental, begin, 3600)) == 1
    return rental


def mature(provider: UUID) -> int:
    """What one maturing moved, 0 when nothing."""
    from billing.payouts.mature import mature as run

    row = run(provider_ref=provider)
    return row.amount_micro if row else 0


def balance(kind: AccountKind, owner: UUID | None = None) -> int:
    legs = Posting.objects.filter(account__kind=kind)
    if owner is not None:
        legs = legs.filter(account__owner_ref=owner)
    return sum(legs.values_list("amount_micro", flat=True))


def pending(provider: UUID) -> int:
    return balance(AccountKind.PROVIDER_PENDING, provider)


def due(provider: UUID) -> int:
    return balance(AccountKind.PROVIDER_DUE, provider)


def receiver(at: Clock, provider: UUID, *, opened: datetime = LONG_AGO) -> str:
    """A payout account at Stripe that works, its hold long over."""
    at(opened)
    with transaction.atomic():
        payouts.open_account_page(
            provider_ref=provider,
            name="Cards Ltd",
            email="pay@example.com",
            country="DE",
            return_url="https://example.com/provider",
        )
    name = f"acct_{provider.hex}"
    account.created(provider, AccountFact(name, True, ()))
    return name


def earner(at: Clock, *, share: int = 100 * USD) -> UUID:
    """A provider past its first ninety days with that much due and a payout account."""
    provider = new_id()
    org = settled_org(at)
    receiver(at, provider)
    early = DAY - timedelta(days=55)
    rental = earn(at, org, provider, share=share, begin=early)
    assert rental
    at(DAY + timedelta(days=40))
    assert mature(provider) == share
    return provider


def right() -> None:
    """The books and the providers' sums hold."""
    assert facade.books().balanced
    assert of_payouts() == []


def of_payouts() -> list[tuple[str, str, int | None]]:
    """What R7 finds: check, subject, amount."""
    return [
        (one.name, one.subject, one.amount)
        for name in ("payout_booked", "provider_shares")
        for one in ledger.differences(name)
    ]
