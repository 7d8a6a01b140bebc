"""Refunds: only what was bought and is unspent goes back, once, whatever Stripe tells and when."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction

from billing import facade
from billing.contracts import PaymentState
from billing.contracts.refunds import OrderKind, OrderView, RefundView
from billing.facade import refunds as door
from billing.ledger.accounts import lock_purse
from billing.models import (
    AccountKind,
    Payment,
    Posting,
    Refund,
    RefundOrder,
    StripeCall,
    TopUp,
    Transaction,
)
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from billing.payments.purchased import refundable
from billing.payments.refund_converge import refund_by_hand, refund_refused, refund_seen
from billing.payments.return_facts import RefundFact
from billing.reconciliation import cash as cash_of
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal, TemporaryError
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    end,
    limit,
    open_org,
    rent,
    start,
    stop,
    use,
    window,
)

pytestmark = pytest.mark.django_db

ANN, BEN = "staff:usr_ann", "staff:usr_ben"


def order(org: UUID, amount: int | None, *, by: str = ANN, renter: bool = False) -> RefundView:
    with transaction.atomic():
        return door.order_refund(
            org_ref=org,
            amount_micro=amount,
            reason="no longer needed",
            ordered_by=by,
            by_renter=renter,
        )


def approve(view: RefundView, *, by: str, alone: bool = False) -> RefundView:
    with transaction.atomic():
        done = door.approve(kind=OrderKind.REFUND, order_id=view.id, approved_by=by, alone=alone)
        assert isinstance(done, RefundView)
        return done


def decline(view: RefundView, *, by: str, reason: str = "not agreed") -> OrderView:
    with transaction.atomic():
        return door.decline(kind=OrderKind.REFUND, order_id=view.id, declined_by=by, reason=reason)


def able(org: UUID) -> int:
    with transaction.atomic():
        return refundable(lock_purse(org))


def available(org: UUID) -> int:
    return facade.balance(org_ref=org).available_micro


def total(kind: AccountKind) -> int:
    return sum(Posting.objects.filter(account__kind=kind).values_list("amount_micro", flat=True))


def fact(row: Refund, state: PaymentState = PaymentState.SUCCEEDED, **changes) -> RefundFact:
    values: dict[str, Any] = {
        "stripe_id": f"re_{row.id.hex}",
        "payment": row.payment.stripe_id,
        "state": state,
        "amount_minor": row.amount_minor,
        "currency": "USD",
        "moved": True,
        "failure": "",
    }
    return RefundFact(**(values | changes))


def by_hand(payment: Payment, minor: int, **changes) -> RefundFact:
    values: dict[str, Any] = {
        "stripe_id": "re_hand",
        "payment": payment.stripe_id,
        "state": PaymentState.SUCCEEDED,
        "amount_minor": minor,
        "currency": "USD",
        "moved": True,
        "failure": "",
    }
    return RefundFact(**(values | changes))


def give(org: UUID, micro: int) -> None:
    with transaction.atomic():
        door.order_adjustment(
            org_ref=org,
            amount_micro=micro,
            against="platform_cost",
            reason="goodwill",
            linked=None,
            ordered_by=ANN,
        )


def spend(org: UUID, at, begin, hours: int) -> None:
    """A rental at 4 USD an hour, used for whole hours and ended."""
    rental = rent(org)
    start(rental, begin)
    for hour in range(hours):
        at(begin + timedelta(hours=hour, minutes=61))
        use(window(rental, begin + timedelta(hours=hour), 3600))
    stop(rental)
    end(rental)


def test_a_refund_takes_the_newest_payment_first_and_never_more_than_its_rest():
    org = open_org()
    for amount in (20, 30, 10):
        credit(org, amount * USD)
    first = order(org, 15 * USD)
    assert [part.amount_micro for part in first.parts] == [10 * USD, 5 * USD]
    second = order(org, 30 * USD)
    assert [part.amount_micro for part in second.parts] == [25 * USD, 5 * USD]
    assert available(org) == 15 * USD
    assert able(org) == 15 * USD
    assert sorted(Payment.objects.values_list("amount_minor", "refunded_minor")) == [
        (1000, 1000),
        (2000, 500),
        (3000, 3000),
    ]
    assert StripeCall.objects.filter(kind="refund").count() == 4
    assert facade.books().balanced


def test_what_was_given_is_spent_first_and_never_paid_out(at):
    """The formula, step by step: bought, given and spent in every order."""
    org = open_org()
    at(DAY)
    give(org, 10 * USD)
    assert able(org) == 0  # nothing was bought
    credit(org, 50 * USD)
    assert able(org) == 50 * USD
    spend(org, at, DAY, 1)  # 4 of the given
    assert able(org) == 50 * USD
    spend(org, at, DAY + timedelta(hours=2), 3)  # 6 of the given, 6 of the bought
    assert (available(org), able(org)) == (44 * USD, 44 * USD)
    give(org, 7 * USD)  # given after spending: it does not become bought
    assert (available(org), able(org)) == (51 * USD, 44 * USD)
    order(org, 40 * USD)
    assert (available(org), able(org)) == (11 * USD, 4 * USD)
    spend(org, at, DAY + timedelta(hours=6), 1)
    assert (available(org), able(org)) == (7 * USD, 4 * USD)
    order(org, None)
    assert (available(org), able(org)) == (3 * USD, 0)


def test_credit_given_for_an_outage_is_never_refunded(at):
    org = open_org()
    credit(org, 20 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=2))
    use(window(rental, DAY, 3600))
    stop(rental)
    end(rental)
    with transaction.atomic():
        given = facade.credit(
            rental_ref=rental, from_at=DAY, to_at=DAY + timedelta(hours=1), by_provider=False
        )
    assert given == 4 * USD
    assert (available(org), able(org)) == (20 * USD, 16 * USD)


def test_what_is_held_stays_and_a_post_paid_limit_is_no_credit_to_refund():
    org = open_org()
    credit(org, 20 * USD)
    rent(org)  # holds 4
    assert able(org) == 16 * USD
    with pytest.raises(InvalidRequest, match="amount"):
        order(org, 17 * USD)
    debtor = open_org()
    limit(debtor, 500 * USD)
    assert able(debtor) == 0
    credit(debtor, 10 * USD)
    assert able(debtor) == 10 * USD
    with pytest.raises(InvalidRequest):
        order(debtor, 11 * USD)


def test_what_cannot_be_refunded_is_refused_and_leaves_nothing():
    org = open_org()
    with pytest.raises(InvalidRequest) as refusal:
        order(org, None)
    assert "nothing can be refunded" in str(refusal.value.extra)
    credit(org, 20 * USD)
    for amount in (0, -USD, 1, 15_000, 21 * USD):
        with pytest.raises(InvalidRequest):
            order(org, amount)
    with pytest.raises(NotFound):
        order(new_id(), USD)
    assert not Refund.objects.exists()
    assert not Transaction.objects.filter(kind="refund").exists()


def test_the_money_leaves_at_the_order_and_is_in_transit_until_stripe_has_it():
    org = open_org()
    credit(org, 20 * USD)
    cash = total(AccountKind.STRIPE_CASH)
    view = order(org, 5 * USD)
    assert (view.state, available(org)) == ("pending", 15 * USD)
    assert total(AccountKind.STRIPE_CASH) == cash + 5 * USD
    assert door.refunds_in_transit() == 5 * USD
    row = Refund.objects.get()
    name, begun = fact(row).stripe_id, now() - timedelta(days=1)
    later = begun + timedelta(days=2)
    payment = Payment.objects.get().stripe_id
    assert cash_of.booked_between(begun, later) == ({payment}, [])  # left out while it waits
    assert refund_seen(row.id, fact(row, PaymentState.PENDING, moved=False))
    assert door.refunds_in_transit() == 5 * USD
    assert cash_of.booked([name]) == {}
    assert refund_seen(row.id, fact(row))
    assert door.refunds_in_transit() == 0
    assert cash_of.booked_between(begun, later) == ({payment, name}, [])
    assert cash_of.booked([name])[name].micro == -5 * USD
    assert door.refunds(org_ref=org)[0].state == "succeeded"
    assert not refund_seen(new_id(), fact(row))


def test_a_refund_that_fails_weeks_later_returns_once_and_stays_failed():
    org = open_org()
    credit(org, 20 * USD)
    order(org, 20 * USD)
    row = Refund.objects.get()
    told = [fact(row), fact(row, PaymentState.FAILED, failure="lost_or_stolen_card")]
    for one in (*told, *told, *reversed(told)):
        assert refund_seen(row.id, one)
    (view,) = door.refunds(org_ref=org)
    assert (view.state, view.parts[0].failure) == ("failed", "lost_or_stolen_card")
    assert (available(org), able(org)) == (20 * USD, 20 * USD)
    assert Transaction.objects.filter(kind="refund_returned").count() == 1
    assert facade.books().balanced


def test_a_refund_that_stripe_refuses_returns_at_once():
    org = open_org()
    credit(org, 20 * USD)
    order(org, 20 * USD)
    row = Refund.objects.get()
    for _ in range(2):
        refund_refused(row.id, "charge_already_refunded")
    assert available(org) == 20 * USD
    assert (door.refunds(org_ref=org)[0].state, door.refunds_in_transit()) == ("failed", 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_refunded_topup_is_never_credited_again_by_any_replay(seed):
    """Events doubled, shuffled and late, and a poller that reads everything again."""
    org = open_org()
    topup = TopUp.objects.create(
        customer_id=org, amount_micro=30 * USD, currency="USD", return_url="https://example.com/"
    )
    paid = PaymentFact("pi_1", PaymentState.SUCCEEDED, 3000, "USD", 117, None)
    assert topup_payment(topup.id, paid)
    order(org, 30 * USD)
    row = Refund.objects.get()
    tell = [
        lambda: topup_payment(topup.id, paid),
        lambda: refund_seen(row.id, fact(row, PaymentState.PENDING, moved=False)),
        lambda: refund_seen(row.id, fact(row)),
    ] * 4
    random.Random(seed).shuffle(tell)
    assert all(one() for one in tell)
    assert available(org) == 0
    assert Transaction.objects.filter(kind="topup").count() == 1
    assert Transaction.objects.filter(kind="refund").count() == 1
    assert facade.books().balanced


def test_a_payment_told_after_its_refund_is_credited_and_refunded_once():
    org = open_org()
    topup = TopUp.objects.create(
        customer_id=org, amount_micro=30 * USD, currency="USD", return_url="https://example.com/"
    )
    hand = RefundFact("re_x", "pi_9", PaymentState.SUCCEEDED, 3000, "USD", True, "")
    assert not refund_by_hand(hand)  # nothing to take back yet: the payment comes first
    paid = PaymentFact("pi_9", PaymentState.SUCCEEDED, 3000, "USD", None, None)
    for _ in range(2):
        assert topup_payment(topup.id, paid)
        assert refund_by_hand(hand)
    assert available(org) == 0
    assert Payment.objects.get().refunded_minor == 3000


def test_a_refund_by_hand_is_booked_once_down_to_the_floor_and_the_rest_is_bad_debt():
    org = open_org()
    credit(org, 20 * USD)
    rent(org)  # 4 of the 20 are held
    payment = Payment.objects.get()
    for _ in range(3):
        assert refund_by_hand(by_hand(payment, 2000))
    assert available(org) == 0
    assert total(AccountKind.BAD_DEBT) == -4 * USD
    assert Refund.objects.get().order is None
    assert facade.books().balanced
    assert refund_by_hand(by_hand(payment, 2000, state=PaymentState.FAILED))
    assert (available(org), total(AccountKind.BAD_DEBT)) == (16 * USD, 0)


def test_a_refund_by_hand_waits_while_ours_of_the_same_money_is_undecided():
    org = open_org()
    credit(org, 20 * USD)
    order(org, 20 * USD)
    payment = Payment.objects.get()
    with pytest.raises(TemporaryError):
        refund_by_hand(by_hand(payment, 2000))
    refund_refused(Refund.objects.get().id, "charge_already_refunded")
    assert refund_by_hand(by_hand(payment, 2000))
    assert available(org) == 0


def test_the_database_refuses_refunds_beyond_the_payment():
    org = open_org()
    credit(org, 20 * USD)
    payment = Payment.objects.get()
    Refund.objects.create(payment=payment, amount_minor=1500, stripe_id="re_1")
    with pytest.raises(IntegrityError, match="billing_payment_refunded"), transaction.atomic():
        Refund.objects.create(payment=payment, amount_minor=501, stripe_id="re_2")
    Refund.objects.filter(stripe_id="re_1").update(state=PaymentState.FAILED)
    Refund.objects.create(payment=payment, amount_minor=2000, stripe_id="re_3")
    with pytest.raises(IntegrityError, match="billing_payment_refunded"), transaction.atomic():
        Refund.objects.filter(stripe_id="re_1").update(state=PaymentState.PENDING)


def test_above_the_limit_nothing_leaves_before_a_second_person_agrees(settings):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 100 * USD
    org = open_org()
    credit(org, 300 * USD)
    assert order(org, 60 * USD).state == "pending"
    view = order(org, 60 * USD)  # with the one before it is above the limit
    assert view.state == "waiting"
    assert order(org, 60 * USD, by=BEN).state == "pending"
    assert available(org) == 180 * USD
    with pytest.raises(Refusal, match="another member") as refusal:
        approve(view, by=ANN)
    assert refusal.value.slug == "invalid_transition"
    assert available(org) == 180 * USD
    done = approve(view, by=BEN)
    assert (done.state, done.approved_by, available(org)) == ("pending", BEN, 120 * USD)
    with pytest.raises(Refusal, match="waits for nobody"):
        approve(view, by=BEN)
    with pytest.raises(NotFound), transaction.atomic():
        door.approve(kind=OrderKind.REFUND, order_id=new_id(), approved_by=BEN)
    with (
        pytest.raises(IntegrityError, match="second"),
        transaction.atomic(),
        connection.cursor() as db,
    ):
        db.execute("UPDATE billing_refundorder SET approved_by = ordered_by WHERE needs_second")


@pytest.mark.parametrize("by", [ANN, BEN])
def test_a_declined_order_books_nothing_and_stays_declined(settings, by):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    org = open_org()
    credit(org, 20 * USD)
    view = order(org, 20 * USD)
    with pytest.raises(InvalidRequest, match="reason"):
        decline(view, by=by, reason=" ")
    done = decline(view, by=by)
    assert (done.state, done.declined_by, done.declined_for) == ("declined", by, "not agreed")
    assert door.refunds(org_ref=org)[0].state == "declined"
    for again in (approve, decline):
        with pytest.raises(Refusal, match="waits for nobody") as refusal:
            again(view, by=BEN)
        assert refusal.value.extra["state"] == "declined"
    assert (available(org), Refund.objects.count()) == (20 * USD, 0)
    sent = order(org, 5 * USD)
    approve(sent, by=BEN)
    with pytest.raises(Refusal, match="waits for nobody"):
        decline(sent, by=BEN)
    with (
        pytest.raises(IntegrityError, match="declined"),
        transaction.atomic(),
        connection.cursor() as db,
    ):
        db.execute("UPDATE billing_refundorder SET declined_by = 'x', declined_at = app_now()")


def test_with_one_member_of_staff_the_same_person_waits_a_day(settings):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    org = open_org()
    credit(org, 20 * USD)
    view = order(org, 20 * USD)
    with pytest.raises(Refusal, match="only member of the staff"):
        approve(view, by=ANN, alone=True)
    with (
        pytest.raises(IntegrityError, match="second"),
        transaction.atomic(),
        connection.cursor() as db,
    ):
        db.execute(
            "UPDATE billing_refundorder SET approved_by = ordered_by, alone = true,"
            " approved_at = created_at + interval '23 hours'"
        )
    RefundOrder.objects.update(created_at=now() - timedelta(hours=24))
    with pytest.raises(Refusal, match="another member"):
        approve(view, by=ANN)
    assert available(org) == 20 * USD
    done = approve(view, by=ANN, alone=True)
    assert (done.state, done.alone, available(org)) == ("pending", True, 0)


def test_what_was_spent_while_an_order_waited_is_not_refunded(settings):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    org = open_org()
    credit(org, 20 * USD)
    view = order(org, 20 * USD)
    rent(org)
    with pytest.raises(InvalidRequest):
        approve(view, by=BEN)
    assert door.refunds(org_ref=org)[0].state == "waiting"
    assert facade.balance(org_ref=org).held_micro == 4 * USD


def test_renters_refund_themselves_up_to_their_limit_in_thirty_days(settings, at):
    settings.GPUYARD_SELF_REFUND_LIMIT = 50 * USD
    org = open_org()
    at(DAY)
    credit(org, 200 * USD)
    assert order(org, 30 * USD, renter=True).state == "pending"
    with pytest.raises(InvalidRequest) as refusal:
        order(org, 21 * USD, renter=True)
    assert "20.00 USD by yourself" in str(refusal.value.extra)
    order(org, 20 * USD, renter=True)
    at(DAY + timedelta(days=31))
    order(org, 50 * USD, renter=True)


def test_fraud_signals_count_per_organization():
    quiet, loud = open_org(), open_org()
    credit(loud, 20 * USD)
    order(loud, 5 * USD)
    TopUp.objects.create(
        customer_id=loud, amount_micro=USD, currency="USD", return_url="x", state="failed"
    )
    found = door.fraud_signals(org_refs=[quiet, loud])
    assert found[quiet].first_settled_at is None
    assert (found[quiet].failed_attempts, found[quiet].refunds) == (0, 0)
    assert (found[loud].failed_attempts, found[loud].refunds, found[loud].disputes) == (1, 1, 0)
    assert found[loud].first_settled_at == Transaction.objects.get(kind="topup").at
