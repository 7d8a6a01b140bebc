"""The standing order against rows: one open, one an hour, a ceiling, off after three failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing import facade
from billing.contracts.autotopup import AutoTopUpWish
from billing.facade import autotopup, funds
from billing.ledger.accounts import account
from billing.ledger.post import Entry, post
from billing.models import (
    AccountKind,
    AutoTopUp,
    CauseType,
    PaymentMethod,
    StripeCall,
    TopUp,
    TransactionKind,
)
from billing.payments.converge import topup_refused
from kernel.errors import InvalidRequest, NotFound, Refusal
from tests.area.billing.conftest import DAY, USD, credit, open_org

pytestmark = pytest.mark.django_db
RETURN = "https://example.com/"


def save_card(org, fingerprint: str = "f1") -> PaymentMethod:
    return PaymentMethod.objects.create(
        customer_id=org,
        stripe_id=f"pm_{org.hex[-8:]}_{PaymentMethod.objects.count()}",
        brand="visa",
        last4="4242",
        exp_month=1,
        exp_year=2030,
        fingerprint=fingerprint,
    )


def order(org, **changes) -> None:
    values: dict[str, Any] = {"enabled": True, "threshold_micro": 10 * USD, "method_id": None}
    values |= {"target_micro": 50 * USD, "daily_micro": 120 * USD, **changes}
    with transaction.atomic():
        autotopup.set_order(org_ref=org, wish=AutoTopUpWish(**values))


def run() -> int:
    return autotopup.run(besides=())


def news() -> list[str]:
    return [one.what for one in autotopup.take_news(limit=10)]


@pytest.fixture
def org(at):
    at(DAY)
    org = open_org()
    save_card(org)
    order(org)
    return org


def test_recurring_topups_fire_every_5_minutes_until_the_first_settles(org, at):
    """The known failure of others: here a whole day of runs starts one charge."""
    started = 0
    for minutes in range(5, 24 * 60, 5):
        at(DAY + timedelta(minutes=minutes))
        started += run()
    assert started == 1
    (topup,) = TopUp.objects.all()
    assert (topup.auto, topup.amount_micro) == (True, 50 * USD)
    assert StripeCall.objects.filter(kind="topup_charge").count() == 1
    assert autotopup.order(org_ref=org).state == "waiting"


def test_the_database_refuses_a_second_open_charge_whatever_a_loop_believes(org, at):
    at(DAY + timedelta(minutes=5))
    assert run() == 1
    with pytest.raises(IntegrityError, match="billing_topup_auto_open"), transaction.atomic():
        TopUp.objects.create(
            customer_id=org, amount_micro=USD, currency="USD", return_url=RETURN, auto=True
        )


def test_off_after_three_failures_told_once_and_on_again_by_its_people(org, at):
    for hour in range(1, 9):
        at(DAY + timedelta(hours=hour))
        run()
        for topup in TopUp.objects.filter(state="pending"):
            topup_refused(topup.id, "Your card was declined.", "card_declined")
    assert TopUp.objects.count() == 3
    view = autotopup.order(org_ref=org)
    assert (view.state, view.off_reason, view.failures) == ("off", "failed", 3)
    with transaction.atomic():
        assert news() == ["failed"]
        assert news() == []
    order(org)
    at(DAY + timedelta(hours=9))
    assert run() == 1


def test_a_card_that_wants_its_owner_is_asked_for_once_and_goes_on_after_a_topup(org, at):
    at(DAY + timedelta(hours=1))
    assert run() == 1
    topup_refused(TopUp.objects.get().id, "Confirm it.", "authentication_required")
    for hour in (2, 3, 4):
        at(DAY + timedelta(hours=hour))
        assert run() == 0
    assert autotopup.order(org_ref=org).state == "action_required"
    with transaction.atomic():
        assert news() == ["action"]
    credit(org, 5 * USD)
    assert run() == 1
    assert TopUp.objects.filter(auto=True).latest("id").amount_micro == 45 * USD


def test_without_its_card_it_is_switched_off_and_nothing_is_charged(org, at):
    PaymentMethod.objects.update(state="detached")
    at(DAY + timedelta(hours=1))
    assert run() == 0
    assert TopUp.objects.count() == 0
    assert AutoTopUp.objects.get().off_reason == "no_card"


def test_orders_that_do_not_fit_together_are_refused(org):
    for wrong in (
        {"threshold_micro": 50 * USD},
        {"target_micro": 4 * USD, "threshold_micro": 0},
        {"target_micro": 50 * USD + 1},
        {"daily_micro": 4 * USD},
    ):
        with pytest.raises(InvalidRequest):
            order(org, **wrong)
    other = open_org()
    with pytest.raises(InvalidRequest):
        order(other)
    with pytest.raises(NotFound):
        order(other, method_id=PaymentMethod.objects.get().id)
    order(other, enabled=False)
    assert run() == 1  # the first organization's only


def pay(org, **more) -> TopUp:
    with transaction.atomic():
        view = facade.start_topup(org_ref=org, amount_micro=5 * USD, return_url=RETURN, **more)
    return TopUp.objects.get(id=view.id)


def refused(org, **more) -> str:
    before = (TopUp.objects.count(), StripeCall.objects.count())
    with pytest.raises(Refusal) as refusal:
        pay(org, **more)
    assert (TopUp.objects.count(), StripeCall.objects.count()) == before, "nothing is stored"
    assert refusal.value.slug == "rate_limited"
    assert refusal.value.extra["retry_after"] > 0
    return refusal.value.detail


def fail(topup: TopUp) -> None:
    topup_refused(topup.id, "Your card was declined.", "card_declined")


def test_card_testing_ends_after_five_refused_cards_of_one_organization(org):
    for _ in range(5):
        fail(pay(org))
    assert "organization" in refused(org)
    with pytest.raises(Refusal), transaction.atomic():
        facade.start_card_setup(org_ref=org, return_url=RETURN)


def test_card_testing_over_many_organizations_ends_at_the_address(at):
    at(DAY)
    for _ in range(15):
        fail(pay(open_org(), ip="93.184.215.14"))
    assert "address" in refused(open_org(), ip="93.184.215.14")
    pay(open_org(), ip="93.184.215.15")
    at(DAY + timedelta(hours=1, seconds=1))
    pay(open_org(), ip="93.184.215.14")


def test_one_card_saved_by_many_organizations_is_bounded_by_its_fingerprint(at):
    at(DAY)
    orgs = [open_org() for _ in range(5)]
    cards = [save_card(org) for org in orgs]
    for org, card in list(zip(orgs, cards, strict=True))[:4]:
        fail(pay(org, payment_method_id=card.id))
    assert "card" in refused(orgs[4], payment_method_id=cards[4].id)
    pay(orgs[4], payment_method_id=save_card(orgs[4], "f2").id)


def test_what_counts_as_settled_is_what_was_paid_and_did_not_go_back(at):
    at(DAY)
    org = open_org()
    assert funds.settled_since(org_refs=[org], amounts=[50 * USD])[org] == {}
    credit(org, 30 * USD)
    at(DAY + timedelta(days=1))
    credit(org, 30 * USD)
    at(DAY + timedelta(days=2))
    credit(org, 30 * USD)
    since = funds.settled_since(org_refs=[org], amounts=[20 * USD, 50 * USD, 100 * USD])[org]
    assert since == {20 * USD: DAY, 50 * USD: DAY + timedelta(days=1)}
    tenant, cash = account(AccountKind.TENANT, org), account(AccountKind.STRIPE_CASH)
    back = ((tenant, -60 * USD), (cash, 60 * USD))
    at(DAY + timedelta(days=3))
    post([Entry(TransactionKind.REFUND, CauseType.REFUND, org, back)])
    since = funds.settled_since(org_refs=[org], amounts=[20 * USD, 50 * USD])[org]
    assert since == {20 * USD: DAY}, "what went back does not count, and counts anew when paid anew"
