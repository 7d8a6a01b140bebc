"""Promotional credit: spent first, soonest date first, never paid out, taken back at its date."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.refunds import OrderKind, PromotionView
from billing.facade import refunds as door
from billing.models import AccountKind, Posting
from billing.payments import promo
from kernel.errors import InvalidRequest, Refusal
from tests.area.billing.conftest import DAY, USD, credit, end, open_org, rent, start, use, window

pytestmark = pytest.mark.django_db

ANN, BEN = "staff:usr_ann", "staff:usr_ben"
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)


def give(org: UUID, amount: int, until: datetime, by: str = ANN) -> PromotionView:
    with transaction.atomic():
        return door.order_promotion(
            org_ref=org, amount_micro=amount, expires_at=until, reason="a trial", ordered_by=by
        )


def left(org: UUID) -> list[float]:
    """USD left of each grant, oldest first."""
    return [one.left_micro / USD for one in reversed(door.promotions(org_ref=org))]


def spend(at, org: UUID, hours: int, since: datetime) -> UUID:
    """A rental at 4 USD an hour that ran so long and ended."""
    rental = rent(org)
    start(rental, since)
    at(since + hours * HOUR)
    use(*(window(rental, since + n * HOUR, 3600) for n in range(hours)))
    end(rental)
    return rental


def refundable(org: UUID) -> float:
    with transaction.atomic():
        view = door.order_refund(
            org_ref=org, amount_micro=None, reason="all of it", ordered_by=ANN, by_renter=False
        )
    return view.amount_micro / USD


def test_the_soonest_is_spent_first_then_the_rest_then_what_was_bought(at):
    at(DAY)
    org = open_org()
    give(org, 10 * USD, DAY + 3 * WEEK)
    spend(at, org, 1, DAY)
    give(org, 10 * USD, DAY + WEEK)
    credit(org, 50 * USD)
    assert left(org) == [6.0, 10.0]
    spend(at, org, 2, DAY + HOUR)
    assert left(org) == [6.0, 2.0], "given later, but its date comes sooner"
    spend(at, org, 1, DAY + 4 * HOUR)
    assert left(org) == [4.0, 0.0]
    spend(at, org, 2, DAY + 6 * HOUR)
    assert left(org) == [0.0, 0.0]
    assert facade.balance(org_ref=org).available_micro == 46 * USD
    assert refundable(org) == 46.0
    assert facade.books().balanced


def test_it_rents_a_card_and_is_never_paid_out(at):
    at(DAY)
    org = open_org()
    give(org, 10 * USD, DAY + WEEK)
    spend(at, org, 1, DAY)
    assert left(org) == [6.0]
    with pytest.raises(InvalidRequest):
        refundable(org)


def test_at_its_date_what_is_free_of_it_is_taken_and_what_is_held_once_it_is_free(at):
    at(DAY)
    org = open_org()
    give(org, 5 * USD, DAY + WEEK)
    credit(org, 1 * USD)
    rental = rent(org)
    at(DAY + WEEK - HOUR)
    assert promo.expire() == 0
    at(DAY + WEEK)
    assert promo.expire() == 1
    assert facade.balance(org_ref=org).available_micro == 0, "4 of 6 are held"
    assert left(org) == [3.0]
    assert promo.expire() == 0
    end(rental)
    assert promo.expire() == 1
    assert facade.balance(org_ref=org).available_micro == 1 * USD, "what was bought stays"
    assert left(org) == [0.0]
    assert promo.expire() == 0
    assert door.promotions(org_ref=org)[0].state == "expired"
    expense = Posting.objects.filter(account__kind=AccountKind.PROMO_EXPENSE)
    assert sum(expense.values_list("amount_micro", flat=True)) == 0
    assert facade.books().balanced


def test_a_large_one_waits_for_a_second_person_and_bad_ones_store_nothing(at, settings):
    at(DAY)
    org = open_org()
    settings.GPUYARD_SECOND_PERSON_ABOVE = 20 * USD
    view = give(org, 21 * USD, DAY + WEEK)
    assert (view.state, facade.balance(org_ref=org).available_micro) == ("waiting", 0)
    with pytest.raises(Refusal), transaction.atomic():
        door.approve(kind=OrderKind.PROMOTION, order_id=view.id, approved_by=ANN)
    with transaction.atomic():
        door.approve(kind=OrderKind.PROMOTION, order_id=view.id, approved_by=BEN)
    assert left(org) == [21.0]
    for amount, until in ((0, DAY + WEEK), (USD, DAY), (USD, DAY + timedelta(days=4000))):
        with pytest.raises(InvalidRequest):
            give(org, amount, until)
    assert len(door.promotions(org_ref=org)) == 1
