"""Shares mature once although their lines commit in another order than they were numbered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection, transaction

from billing.ledger.accounts import open_accounts
from billing.models import AccountKind, Maturity, Payment, Posting
from billing.payouts.mature import mature
from kernel.clock import hour_of, now
from kernel.ids import new_id
from tests.area.billing.conftest import USD, credit, open_org, rent, use, window
from tests.area.billing.earners import due, pending, right
from tests.races.test_billing_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def two_rentals(settings):
    """A provider with rentals of two tenants whose use is due as soon as it is booked."""
    settings.GPUYARD_MATURITY_DAYS = 0
    provider, orgs = new_id(), (open_org(), open_org())
    for org in orgs:
        credit(org, 1000 * USD)
    Payment.objects.update(created_at=now() - timedelta(days=31))
    # Whoever books a first share opens accounts, for which everybody else waits.
    kinds = (AccountKind.PLATFORM_COST, AccountKind.REVENUE, AccountKind.TAX_PAYABLE)
    shared = [(kind, None) for kind in kinds]
    open_accounts([*shared, (AccountKind.PROVIDER_PENDING, provider)])
    terms = {"provider_ref": provider, "price_micro_h": 4 * USD, "provider_micro_h": 2 * USD}
    return provider, *(rent(org, **terms) for org in orgs)


def test_a_line_numbered_first_and_committed_last_matures_once(two_rentals):
    provider, first, second = two_rentals
    begin = hour_of(now()) - timedelta(hours=3)
    booked, may_commit = Event(), Event()

    def slow() -> None:
        try:
            with transaction.atomic():
                use(window(first, begin, 3600))
                booked.set()
                assert may_commit.wait(30)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(slow)
        assert booked.wait(30)
        use(window(second, begin + timedelta(hours=1), 1800))
        moved = mature(provider_ref=provider)
        may_commit.set()
        task.result()
    shares = Posting.objects.filter(account__kind="provider_pending", amount_micro__gt=0)
    low, high = shares.order_by("id")
    assert low.amount_micro == 2 * USD  # numbered before the other, and not seen then
    assert low.id < high.id
    assert moved is not None
    assert moved.amount_micro == 1 * USD
    late = mature(provider_ref=provider)
    assert late is not None
    assert late.amount_micro == 2 * USD
    assert mature(provider_ref=provider) is None
    assert (pending(provider), due(provider)) == (0, 3 * USD)
    right()


def test_eight_workers_mature_the_same_shares_once_while_use_goes_on(two_rentals):
    provider, first, second = two_rentals
    begin = hour_of(now()) - timedelta(hours=5)

    def work(number: int) -> object:
        if number % 2:
            return use(window(first if number < 4 else second, begin, 3600))
        return mature(provider_ref=provider)

    outcomes = at_once(8, work)
    assert not [one for one in outcomes if isinstance(one, Exception)]
    mature(provider_ref=provider)
    assert (pending(provider), due(provider)) == (0, 4 * USD)
    assert sum(Maturity.objects.values_list("amount_micro", flat=True)) == 4 * USD
    right()
