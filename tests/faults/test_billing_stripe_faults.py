"""Every call to Stripe fails in every way at every step, and the money comes out the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction

from billing import facade
from billing.models import Payment, StripeCall, StripeEvent
from billing.stripe_gateway import execute, inbox, poll
from kernel.clock import hour_of, now
from tests.area.billing.conftest import USD, end, limit, open_org, rent, start, stop, use, window
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    failing,
    hurry,
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
EVERY_FAULT = ["rate_limit", "error_before", "error_after", "cut_before", "cut_after"]


def settle() -> None:
    """Repeat what failed until nothing waits any more."""
    for _ in range(5):
        hurry()
        send()


@pytest.mark.parametrize("fault", EVERY_FAULT)
@pytest.mark.parametrize("path", ["/v1/customers", "/v1/checkout/sessions"])
def test_a_page_topup_survives(stripe, fault, path):
    org = open_org()
    with failing(stripe, fault, path):
        wish = topup(org, 25 * USD)
        send()
    settle()
    assert len(stripe.objects("customer")) == 1
    assert len(stripe.objects("checkout.session")) == 1
    stripe.pay_page(facade.topup(org_ref=org, topup_id=wish).checkout_url)
    receive()
    assert facade.balance(org_ref=org).available_micro == 25 * USD
    assert not StripeCall.objects.exclude(state="done").exists()


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_a_saved_card_is_charged_once(stripe, fault):
    org = open_org()
    card = save_card(stripe, org)
    with failing(stripe, fault, "/v1/payment_intents"):
        wish = topup(org, 30 * USD, card)
        send()
    settle()
    receive()
    (charge,) = stripe.objects("charge")
    assert charge["amount"] == 3000
    assert Payment.objects.count() == 1
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    assert facade.balance(org_ref=org).available_micro == 30 * USD
    assert facade.books().balanced


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_every_step_of_an_invoice_survives_every_fault(stripe, fault):
    org = open_org()
    limit(org, 100 * USD)
    save_card(stripe, org)
    for accelerator in ("nvidia-h100-80gb-sxm", "huawei-ascend-910b"):
        rental = rent(org, accelerator=accelerator)
        use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    with transaction.atomic():
        view = facade.close_period(org_ref=org, actor="staff@example.com")
    # Each step's first request is hit: draft, first line, finalization, payment.
    stripe.fail(fault, method="POST", path="/v1/invoiceitems")
    stripe.fail(fault, method="POST", path="/v1/invoices", times=1)
    stripe.fail(fault, method="POST", path="/v1/invoices/", times=2)
    for _ in range(4):
        settle()
    assert all(armed["hits"] == armed["times"] for armed in stripe.faults())
    receive()
    (invoice,) = stripe.objects("invoice")
    assert len(stripe.objects("invoiceitem")) == 2
    assert invoice["total"] == view.total_minor == 800
    assert len(stripe.objects("charge")) == 1
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "paid"
    assert Payment.objects.count() == 1
    balance = facade.balance(org_ref=org)
    assert balance.spendable_micro == 100 * USD - balance.held_micro
    assert facade.books().balanced


def test_a_key_older_than_23_hours_is_not_used_again(stripe):
    org = open_org()
    card = save_card(stripe, org)
    with failing(stripe, "cut_after", "/v1/payment_intents"):
        wish = topup(org, 30 * USD, card)
        send()
    StripeCall.objects.filter(kind="topup_charge").update(
        first_sent_at=now() - timedelta(hours=23, minutes=30)
    )
    settle()
    keys = [
        row["idempotency_key"]
        for row in stripe.requests()
        if str(wish) in (row["idempotency_key"] or "")
    ]
    assert keys == [f"topup:{wish}:1"]  # it was found by looking, and not asked for again
    assert facade.balance(org_ref=org).available_micro == 30 * USD


def test_stripe_down_changes_nothing_for_the_renter(stripe):
    org = open_org()
    limit(org, 50 * USD)
    stripe.down("cut")
    begin = hour_of(now()) - timedelta(hours=1)
    rental = rent(org)
    start(rental, begin)
    send()
    receive()
    use(window(rental, begin, 3600))
    assert facade.exhausted(limit=10) == []
    stop(rental)
    end(rental)
    with transaction.atomic():
        view = facade.close_period(org_ref=org, actor="staff@example.com")
    send()
    assert facade.spent(rental_refs=[rental]) == {rental: 4 * USD}
    assert not stripe.objects("customer")
    stripe.down(None)
    settle()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "open"
    assert not StripeCall.objects.exclude(state="done").exists()
    assert facade.books().balanced


def test_a_crash_between_the_answer_and_the_commit_repeats_safely(stripe, monkeypatch):
    org = open_org()
    card = save_card(stripe, org)
    wish = topup(org, 30 * USD, card)
    kept = execute._finish

    def crash(*_args, **_options):
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(execute, "_finish", crash)
    with pytest.raises(RuntimeError):
        send()
    monkeypatch.setattr(execute, "_finish", kept)
    send()
    assert facade.topup(org_ref=org, topup_id=wish).state == "pending"  # still the dead one's
    settle()
    assert len(stripe.objects("charge")) == 1
    assert facade.balance(org_ref=org).available_micro == 30 * USD


def test_a_worker_whose_claim_ran_out_writes_nothing(stripe, monkeypatch):
    org = open_org()
    card = save_card(stripe, org)
    topup(org, 30 * USD, card)
    intent = execute._claim()
    assert intent is not None
    hurry()
    send()  # somebody else claims and finishes it
    assert execute._run(intent)
    assert StripeCall.objects.get(kind="topup_charge").state == "done"
    assert len(stripe.objects("charge")) == 1
    assert facade.balance(org_ref=org).available_micro == 30 * USD


def worker() -> subprocess.Popen[bytes]:
    """A real worker process that executes intents and is ours to kill."""
    parts = connection.settings_dict
    auth = f"{parts['USER']}:{parts['PASSWORD']}@" if parts["PASSWORD"] else f"{parts['USER']}@"
    url = f"postgresql://{auth}{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"
    code = (
        "import django; django.setup()\nfrom billing.stripe_gateway.execute import drain; drain()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ
        | {
            "DATABASE_URL": url,
            "BROKER_URL": django_settings.CELERY_BROKER_URL,
            "STRIPE_API_BASE": django_settings.STRIPE_API_BASE,
            "STRIPE_API_KEY": django_settings.STRIPE_API_KEY,
            "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        },
    )


@pytest.mark.parametrize("moment", ["hold_before", "hold_after"])
def test_kill_nine_while_the_card_is_being_charged(stripe, moment):
    org = open_org()
    card = save_card(stripe, org)
    fault = stripe.fail(moment, method="POST", path="/v1/payment_intents")
    wish = topup(org, 30 * USD, card)
    process = worker()
    try:
        deadline = time.monotonic() + 60
        while not any(one["id"] == fault and one["hits"] for one in stripe.faults()):
            assert process.poll() is None, "the worker ended before it charged"
            assert time.monotonic() < deadline, "the worker never asked Stripe"
        process.kill()
    finally:
        process.kill()
        process.wait(30)
    stripe.release()
    stripe.clear()
    assert facade.topup(org_ref=org, topup_id=wish).state == "pending"
    settle()
    receive()
    assert len(stripe.objects("charge")) == 1
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    assert facade.balance(org_ref=org).available_micro == 30 * USD
    assert facade.books().balanced


@pytest.fixture
def webhooks(stripe, simulator, live_server, settings):
    """The simulator delivers to our real view over HTTP."""
    settings.ROOT_URLCONF = "billing.http.urls"
    stripe.endpoint(f"{live_server.url}/webhooks/stripe", simulator.webhook_secret)
    return stripe


def paid_topup(stripe, org) -> None:
    wish = topup(org, 25 * USD)
    send()
    stripe.pay_page(facade.topup(org_ref=org, topup_id=wish).checkout_url)


@pytest.mark.parametrize("fault", [None, "double", "shuffle"])
def test_webhooks_doubled_or_shuffled_credit_once(webhooks, fault):
    org = open_org()
    if fault:
        webhooks.fail(fault, event="", times=4)
    paid_topup(webhooks, org)
    assert webhooks.flush().get("delivered")
    while inbox.drain():
        pass
    assert facade.balance(org_ref=org).available_micro == 25 * USD
    for event in StripeEvent.objects.all():
        assert event.source == "webhook"
        assert event.applied_at
        webhooks.redeliver(event.id)
    webhooks.flush()
    receive()
    assert facade.balance(org_ref=org).available_micro == 25 * USD
    assert Payment.objects.count() == 1


def test_webhooks_that_never_come_are_polled(webhooks):
    org = open_org()
    webhooks.fail("drop", event="", times=100)
    paid_topup(webhooks, org)
    webhooks.flush()
    assert not StripeEvent.objects.exists()
    assert poll.poll() > 0
    assert poll.poll() == 0
    while inbox.drain():
        pass
    assert facade.balance(org_ref=org).available_micro == 25 * USD


def test_an_event_that_comes_late_moves_nothing_back(webhooks):
    org = open_org()
    wish = topup(org, 25 * USD)
    send()
    page = facade.topup(org_ref=org, topup_id=wish).checkout_url
    webhooks.pay_page(page)
    webhooks.flush()
    receive()
    StripeEvent.objects.create(
        id="evt_late",
        type="checkout.session.expired",
        object_id=webhooks.objects("checkout.session")[0]["id"],
        raw="{}",
        source="webhook",
    )
    inbox.drain()
    assert StripeEvent.objects.get(id="evt_late").outcome == "applied"
    assert facade.topup(org_ref=org, topup_id=wish).state == "succeeded"
    assert facade.balance(org_ref=org).available_micro == 25 * USD


def test_events_wait_while_stripe_is_down(webhooks):
    org = open_org()
    paid_topup(webhooks, org)
    webhooks.flush()
    webhooks.down("503")
    inbox.drain()
    assert facade.balance(org_ref=org).available_micro == 0
    webhooks.down(None)
    hurry()
    while inbox.drain():
        pass
    assert facade.balance(org_ref=org).available_micro == 25 * USD


def test_unsigned_and_broken_webhooks_store_nothing(client, settings, stripe):
    settings.ROOT_URLCONF = "billing.http.urls"
    body = b'{"id": "evt_1", "type": "payment_intent.succeeded"}'
    for headers in ({}, {"Stripe-Signature": "t=1,v1=00"}):
        answer = client.post(
            "/webhooks/stripe", body, content_type="application/json", headers=headers
        )
        assert answer.status_code == 400
    assert client.get("/webhooks/stripe").status_code == 405
    assert not StripeEvent.objects.exists()
