"""A charged stretch given back: to the payer what it paid, borne by whose fault it was, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.models import AccountKind, Posting
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    end,
    open_org,
    rent,
    start,
    stop,
    use,
    window,
)

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def give(rental: UUID, start_at: datetime, to_at: datetime, *, by_provider: bool) -> int:
    with transaction.atomic():
        return facade.credit(
            rental_ref=rental, from_at=start_at, to_at=to_at, by_provider=by_provider
        )


def total(kind: AccountKind) -> int:
    return sum(
        Posting.objects.filter(account__kind=kind, txn__kind="outage_credit").values_list(
            "amount_micro", flat=True
        )
    )


def used(at, *, paid: int = 20 * USD) -> tuple[UUID, UUID]:
    """An organization and its rental at 4 USD an hour, charged from 0:00 to 1:30 and stopped."""
    org = open_org()
    credit(org, paid)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + 95 * MINUTE)
    use(window(rental, DAY, 3600))
    use(window(rental, DAY + 60 * MINUTE, 1800))
    stop(rental)
    end(rental)
    return org, rental


@pytest.mark.parametrize("by_provider", [True, False])
def test_the_last_hour_comes_back_and_who_is_at_fault_bears_it(at, by_provider):
    org, rental = used(at)
    before = facade.balance(org_ref=org).available_micro
    until = DAY + 90 * MINUTE
    assert give(rental, until - 60 * MINUTE, until, by_provider=by_provider) == 4 * USD
    assert facade.balance(org_ref=org).available_micro == before + 4 * USD
    assert facade.spent(rental_refs=[rental]) == {rental: 2 * USD}
    share = total(AccountKind.PROVIDER_PENDING)
    if by_provider:
        assert (share, total(AccountKind.PLATFORM_COST)) == (-3_400_000, 0)
        assert total(AccountKind.REVENUE) == -600_000
    else:
        assert (share, total(AccountKind.REVENUE)) == (0, 0)
        assert total(AccountKind.PLATFORM_COST) == -4 * USD
    assert give(rental, until - 60 * MINUTE, until, by_provider=not by_provider) == 0
    assert facade.books().balanced
    newest = facade.transactions(org_ref=org, limit=1)[0]
    assert (newest.kind, newest.amount_micro) == ("outage_credit", 4 * USD)
    assert newest.text.startswith("Given back: ")


def test_what_the_platform_bore_already_is_not_given_to_the_renter(at):
    org, rental = used(at, paid=5 * USD)  # a dollar short of the 6 that were used
    assert facade.spent(rental_refs=[rental]) == {rental: 5 * USD}
    until = DAY + 90 * MINUTE
    assert give(rental, until - 60 * MINUTE, until, by_provider=True) == 3 * USD
    assert facade.balance(org_ref=org).available_micro == 3 * USD
    assert total(AccountKind.PLATFORM_COST) == USD
    assert facade.books().balanced


def test_nothing_was_charged_then_so_nothing_comes_back(at):
    _, rental = used(at)
    later = DAY + 90 * MINUTE
    assert give(rental, later, later + 60 * MINUTE, by_provider=True) == 0
    assert give(new_id(), DAY, later, by_provider=True) == 0
