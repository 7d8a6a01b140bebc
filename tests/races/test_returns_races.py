"""Many clicks at once on one top-up, one refund, one approval: each cent moves once."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import transaction

from billing import facade
from billing.contracts import PaymentState
from billing.contracts.refunds import OrderKind
from billing.facade import refunds
from billing.models import Payment, Refund, StripeCall, TopUp, Transaction
from billing.payments.converge import topup_payment
from billing.payments.facts import PaymentFact
from billing.payments.refund_converge import refund_by_hand, refund_seen
from billing.payments.return_facts import RefundFact
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from marketplace.http import ratelimit
from tests.area.billing.conftest import USD, credit, open_org
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
)
from tests.market import make_renter
from tests.races.test_billing_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_sixty_four_clicks_on_one_top_up_are_one_charge_and_one_credit(stripe, monkeypatch):
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets(rate=1e6, burst=1e6))
    renter = make_renter(credit=0)
    org = renter.principal.org.id
    body = {
        "amount": "25.00",
        "payment_method": public("payment_method", save_card(stripe, org)),
    }
    clicked = at_once(64, lambda _: renter.raw("POST", "/billing/topups", body, key="one click"))
    answers = [one for one in clicked if isinstance(one, tuple)]
    assert len(answers) == 64, clicked
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {202, 409}  # 409: the first is still being worked on
    assert statuses[202] >= 1
    assert len({content for status, content in answers if status == 202}) == 1
    send()
    receive()
    assert TopUp.objects.filter(customer=org).count() == 1
    assert StripeCall.objects.filter(kind="topup_charge").count() == 1
    assert len(stripe.objects("payment_intent")) == 1
    assert facade.balance(org_ref=org).available_micro == 25 * USD
    assert Transaction.objects.filter(kind="topup").count() == 1


def test_refunds_at_once_never_pass_what_was_paid():
    org = open_org()
    for _ in range(5):
        credit(org, 20 * USD)

    def order(_: int) -> str:
        try:
            with transaction.atomic():
                refunds.order_refund(
                    org_ref=org,
                    amount_micro=30 * USD,
                    reason="closing",
                    ordered_by="renter",
                    by_renter=True,
                )
        except InvalidRequest as refusal:
            return refusal.slug
        return "ordered"

    outcomes = Counter(map(str, at_once(24, order)))
    assert outcomes == {"ordered": 3, "invalid_request": 21}
    assert facade.balance(org_ref=org).available_micro == 10 * USD
    paid = sum(Refund.objects.values_list("amount_minor", flat=True))
    assert paid == sum(Payment.objects.values_list("refunded_minor", flat=True)) == 9000
    assert facade.books().balanced


def test_two_approvals_at_once_send_one_refund(settings):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    org = open_org()
    credit(org, 20 * USD)
    with transaction.atomic():
        view = refunds.order_refund(
            org_ref=org, amount_micro=None, reason="closing", ordered_by="ann", by_renter=False
        )

    def approve(number: int) -> str:
        try:
            with transaction.atomic():
                refunds.approve(
                    kind=OrderKind.REFUND, order_id=view.id, approved_by=f"staff {number}"
                )
        except Refusal as refusal:
            return refusal.slug
        return "sent"

    assert Counter(map(str, at_once(8, approve))) == {"sent": 1, "invalid_transition": 7}
    assert Refund.objects.count() == 1
    assert facade.balance(org_ref=org).available_micro == 0


def test_orders_answers_and_payments_of_one_tenant_never_deadlock():
    org = open_org()
    credit(org, 200 * USD)
    payment = Payment.objects.get()
    paid = PaymentFact(payment.stripe_id, PaymentState.SUCCEEDED, 20_000, "USD", 300, None)
    with transaction.atomic():
        refunds.order_refund(
            org_ref=org, amount_micro=50 * USD, reason="first", ordered_by="x", by_renter=False
        )
    row = Refund.objects.get()

    def told(state: PaymentState) -> RefundFact:
        return RefundFact("re_1", payment.stripe_id, state, 5000, "USD", True, "")

    def work(number: int) -> str:
        if number % 4 == 0:
            with transaction.atomic():
                refunds.order_refund(
                    org_ref=org, amount_micro=USD, reason="more", ordered_by="x", by_renter=True
                )
        elif number % 4 == 1:
            refund_seen(row.id, told(PaymentState.FAILED if number > 8 else PaymentState.PENDING))
        elif number % 4 == 2:
            assert payment.topup_id is not None
            topup_payment(payment.topup_id, paid)
        else:
            hand = RefundFact(
                "re_hand", payment.stripe_id, PaymentState.SUCCEEDED, 700, "USD", True, ""
            )
            refund_by_hand(hand)
        return "done"

    assert Counter(map(repr, at_once(24, work))) == {"'done'": 24}
    assert facade.balance(org_ref=org).available_micro == (200 - 6 - 7) * USD
    assert facade.books().balanced
