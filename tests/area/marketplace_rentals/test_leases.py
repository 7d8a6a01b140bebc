"""From dates and money to the wish that the provisioner carries out, for every live rental."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from billing import facade as billing
from kernel import clock
from kernel.ids import parse
from marketplace.models import Rental
from marketplace.rentals import lease
from provisioner.models import Instance
from tests.market import USD, Renter, Supply, add_credit, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

SLOP = timedelta(seconds=30)


def rented(renter: Renter, supply: Supply, **changes: Any) -> Rental:
    status, body = renter.call("POST", "/rentals", order(supply.offer, **changes))
    assert status == 202, body
    return Rental.objects.get(id=parse("rental", body["id"]))


def left(rental: Rental) -> timedelta | None:
    until = Instance.objects.get(rental_ref=rental.id).lease_until
    return None if until is None else until - clock.now()


def near(found: timedelta | None, wanted: timedelta) -> bool:
    return found is not None and abs(found - wanted) < SLOP


def test_a_rental_with_money_and_time_gets_the_full_length() -> None:
    rental = rented(make_renter(), make_supply(2), max_hours=100)
    assert left(rental) is None
    assert lease.push() == 1
    assert near(left(rental), lease.PREPAID)


def test_its_date_ends_it_earlier() -> None:
    rental = rented(make_renter(), make_supply(2), max_hours=4)
    lease.push()
    assert near(left(rental), timedelta(hours=4) + lease.MARGIN)


def test_money_ends_it_earlier_for_all_rentals_of_an_organization() -> None:
    renter, supply = make_renter(credit=20 * USD), make_supply(4)
    one = rented(renter, supply, max_hours=100)
    lease.push()
    assert near(left(one), timedelta(hours=10) + lease.MARGIN)
    two = rented(renter, supply, max_hours=100)
    other = rented(make_renter(), supply, max_hours=100)
    lease.push()
    assert near(left(one), timedelta(hours=5) + lease.MARGIN)
    assert near(left(two), timedelta(hours=5) + lease.MARGIN)
    assert near(left(other), lease.PREPAID)
    add_credit(renter.org, 20 * USD)
    lease.push()
    assert near(left(one), timedelta(hours=10) + lease.MARGIN)


def test_post_paid_customers_get_three_days() -> None:
    renter = make_renter(credit=0)
    with transaction.atomic():
        billing.set_credit_limit(org_ref=renter.org, limit_micro=1000 * USD)
    rental = rented(renter, make_supply(2), max_hours=100)
    lease.push()
    assert near(left(rental), lease.POST_PAID)


def test_what_ends_is_wished_nothing_more() -> None:
    renter, supply = make_renter(), make_supply(2)
    rental = rented(renter, supply)
    lease.push()
    before = Instance.objects.get(rental_ref=rental.id).lease_until
    assert renter.call("DELETE", f"/rentals/{rental.public_id}")[0] == 202
    assert lease.push() == 0
    assert Instance.objects.get(rental_ref=rental.id).lease_until == before


def test_statements_do_not_grow_with_rentals(django_assert_num_queries) -> None:
    """One set: the rentals, their meters, their accounts, the clock twice, the wishes."""
    supply = make_supply(8)
    for _ in range(2):
        rented(make_renter(), supply, max_hours=100)
    with django_assert_num_queries(6):
        lease.push()
    for _ in range(4):
        rented(make_renter(), supply, max_hours=100)
    with django_assert_num_queries(6):
        assert lease.push() == 6


def test_sets_hold_whole_organizations(monkeypatch) -> None:
    """Half of an organization's rentals would be taken for all that its money must pay."""
    monkeypatch.setattr(lease, "_SET", 2)
    supply = make_supply(8)
    renters = [make_renter(credit=20 * USD) for _ in range(2)]
    made = [rented(renter, supply, max_hours=100) for renter in renters for _ in range(3)]
    sets = list(lease._sets())
    assert [len(found) for found in sets] == [3, 3]
    assert lease.push() == 6
    for rental in made:
        assert near(left(rental), timedelta(hours=10) / 3 + lease.MARGIN)
