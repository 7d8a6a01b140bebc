"""Money in through Stripe: customers, cards, top-ups, against the simulator with the real SDK."""

from __future__ import annotations

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.autotopup import AutoTopUpWish
from billing.facade import autotopup
from billing.models import Payment, PaymentMethod, StripeCall, StripeEvent
from billing.stripe_gateway import inbox
from tests.area.billing.conftest import USD, open_org
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)

pytestmark = pytest.mark.django_db(transaction=True)


def available(org):
    return facade.balance(org_ref=org).available_micro


def test_a_customer_is_created_once_with_our_metadata(stripe):
    org = open_org("Acme")
    send()
    send()
    (customer,) = stripe.objects("customer")
    assert customer["metadata"] == {"gpuyard_org": str(org)}
    assert customer["name"] == "Acme"


def test_topup_on_stripes_page_is_credited_once(stripe):
    org = open_org()
    wish = topup(org, 25 * USD)
    assert facade.topup(org_ref=org, topup_id=wish).checkout_url is None
    send()
    view = facade.topup(org_ref=org, topup_id=wish)
    assert view.state == "open"
    assert view.checkout_url
    stripe.pay_page(view.checkout_url)
    receive()
    receive()
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    assert available(org) == 25 * USD
    payment = Payment.objects.get()
    (intent,) = stripe.objects("payment_intent")
    assert payment.stripe_id == intent["id"]
    assert payment.amount_minor == intent["amount_received"] == 2500
    assert payment.fee_txn_id is not None
    assert (payment.card_brand, payment.card_last4) == ("visa", "4242")
    assert facade.books().balanced


def test_what_stripe_has_is_what_our_cash_account_says(stripe):
    from django.db.models import Sum

    from billing.models import Posting

    org = open_org()
    for amount in (5, 17, 100):
        wish = topup(org, amount * USD)
        send()
        stripe.pay_page(facade.topup(org_ref=org, topup_id=wish).checkout_url)
    receive()
    cash = Posting.objects.filter(account__kind="stripe_cash").aggregate(Sum("amount_micro"))
    balance = stripe.state()["balance"]
    assert -cash["amount_micro__sum"] // 10_000 == sum(
        entry["net"] for entry in stripe.objects("balance_transaction")
    ), balance


def test_a_card_refused_on_the_page_can_be_followed_by_a_good_one(stripe):
    from devstack.stripe.control import ControlError

    org = open_org()
    wish = topup(org, 25 * USD)
    send()
    page = facade.topup(org_ref=org, topup_id=wish).checkout_url
    with pytest.raises(ControlError):
        stripe.pay_page(page, "4000000000000002")
    receive()
    view = facade.topup(org_ref=org, topup_id=wish)
    assert view.state == "open"
    assert "declined" in str(view.failure)
    assert available(org) == 0
    stripe.pay_page(page)
    receive()
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    assert available(org) == 25 * USD


def test_an_expired_page_ends_the_topup(stripe):
    org = open_org()
    wish = topup(org, 25 * USD)
    send()
    stripe.advance(25 * 3600)
    receive()
    assert facade.topup(org_ref=org, topup_id=wish).state == "canceled"
    assert available(org) == 0


def test_topup_with_a_saved_card(stripe):
    org = open_org()
    card = save_card(stripe, org)
    (method,) = facade.payment_methods(org_ref=org)
    assert (method.brand, method.last4, method.state) == ("visa", "4242", "active")
    wish = topup(org, 30 * USD, card)
    send()
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    receive()
    assert available(org) == 30 * USD
    assert Payment.objects.get(topup=wish).state == "succeeded"


def test_a_saved_card_that_declines_fails_the_topup(stripe):
    org = open_org()
    card = save_card(stripe, org, "4000000000000341")
    wish = topup(org, 30 * USD, card)
    send()
    receive()
    view = facade.topup(org_ref=org, topup_id=wish)
    assert view.state == "failed"
    assert "declined" in str(view.failure)
    assert available(org) == 0
    assert StripeCall.objects.get(kind="topup_charge").error_code == "card_declined"


def test_a_card_that_wants_its_owner_fails_off_session(stripe):
    org = open_org()
    card = save_card(stripe, org, "4000002760003184")
    wish = topup(org, 30 * USD, card)
    send()
    receive()
    view = facade.topup(org_ref=org, topup_id=wish)
    assert view.state == "failed"
    assert "authentication" in str(view.failure)


def test_events_of_types_we_do_not_use_are_marked_ignored(stripe):
    StripeEvent.objects.create(id="evt_x", type="customer.created", raw="{}", source="webhook")
    inbox.drain()
    event = StripeEvent.objects.get()
    assert event.outcome == "ignored"
    assert event.applied_at is not None


def test_an_event_about_a_foreign_object_is_told_from_a_lost_one(stripe):
    from billing.stripe_gateway.client import call

    call(
        lambda client: client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd"}, {"idempotency_key": "foreign"}
        )
    )
    mark = {"gpuyard_topup": "01920000-0000-7000-8000-000000000000"}
    call(
        lambda client: client.v1.payment_intents.create(
            {"amount": 500, "currency": "usd", "metadata": mark}, {"idempotency_key": "lost"}
        )
    )
    foreign, lost = (row["id"] for row in stripe.objects("payment_intent"))
    for name, intent in (("evt_f", foreign), ("evt_l", lost)):
        StripeEvent.objects.create(
            id=name, type="payment_intent.succeeded", object_id=intent, raw="{}", source="poll"
        )
    inbox.drain()
    assert StripeEvent.objects.get(id="evt_f").outcome == "ignored"
    assert StripeEvent.objects.get(id="evt_l").outcome == "unknown_object"
    assert [view.stripe_id for view in facade.unknown_objects()] == [lost]


def test_the_scheduled_tasks_do_all_of_it(stripe):
    from billing import tasks

    org = open_org()
    wish = topup(org, 25 * USD)
    tasks.stripe_out()
    stripe.pay_page(facade.topup(org_ref=org, topup_id=wish).checkout_url)
    tasks.stripe_poll()
    tasks.stripe_in()
    tasks.meter_mirror()
    tasks.invoices()
    assert available(org) == 25 * USD


def test_no_call_leaves_from_inside_a_transaction(stripe):
    from django.db import transaction

    from billing.stripe_gateway.client import call

    before = len(stripe.requests())
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        call(lambda client: client.v1.customers.list())
    assert len(stripe.requests()) == before


def test_the_standing_order_charges_the_saved_card_and_asks_its_owner_when_the_bank_does(stripe):
    for number, state, due in (
        ("4242424242424242", "on", 50 * USD),
        ("4000002760003184", "action_required", 0),
    ):
        org = open_org()
        card = save_card(stripe, org, number)
        wish = AutoTopUpWish(True, 10 * USD, 50 * USD, 100 * USD, card)
        with transaction.atomic():
            autotopup.set_order(org_ref=org, wish=wish)
        assert autotopup.run(besides=()) == 1
        send()
        receive()
        assert autotopup.run(besides=()) == 0
        assert (autotopup.order(org_ref=org).state, available(org)) == (state, due)
        fingerprint = PaymentMethod.objects.get(id=card).fingerprint
        assert fingerprint, "one card is counted wherever it is saved"
    assert [intent["amount"] for intent in stripe.objects("payment_intent")] == [5000, 5000]
