"""Money that goes back at Stripe: refunds, disputes and evidence, and what replays do to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.facade import disputes, refunds
from billing.models import Account, Posting, Refund, StripeCall, StripeEvent, Transaction
from billing.stripe_gateway import execute, inbox, poll
from billing.stripe_gateway.client import call
from devstack.stripe.control import Control
from kernel.clock import hour_of, now
from tests.area.billing.conftest import USD, limit, open_org, rent, use, window
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


def paid(stripe: Control, card: str = "4242424242424242", micro: int = 50 * USD) -> UUID:
    """An organization whose top-up was paid with this card."""
    org = open_org()
    topup(org, micro, save_card(stripe, org, card))
    send()
    receive()
    return org


def order(org: UUID, micro: int | None = None) -> None:
    with transaction.atomic():
        refunds.order_refund(
            org_ref=org, amount_micro=micro, reason="closing", ordered_by="staff", by_renter=False
        )


def available(org: UUID) -> int:
    return facade.balance(org_ref=org).available_micro


def cash() -> int:
    """What the ledger says we have at Stripe, in cents."""
    account = Account.objects.get(kind="stripe_cash")
    total = sum(Posting.objects.filter(account=account).values_list("amount_micro", flat=True))
    return -total // 10_000


def there(stripe: Control) -> int:
    balance = stripe.state()["balance"]
    return int(balance["available"]) + int(balance["pending"])


def replay() -> None:
    """Every event comes again, and the poller reads everything again."""
    StripeEvent.objects.update(applied_at=None, outcome=None)
    hurry()
    receive()
    StripeEvent.objects.all().delete()
    receive()


def test_a_refund_goes_through_once_although_its_answer_was_lost(stripe):
    org = paid(stripe)
    order(org, 20 * USD)
    with failing(stripe, "cut_after", "/v1/refunds"):
        send()
    assert refunds.refunds_in_transit() == 20 * USD
    hurry()
    send()
    (row,) = stripe.objects("refund")
    assert (row["amount"], row["metadata"]["gpuyard_refund"]) == (
        2000,
        str(Refund.objects.get().id),
    )
    assert (refunds.refunds(org_ref=org)[0].state, refunds.refunds_in_transit()) == ("succeeded", 0)
    receive()
    replay()
    assert (available(org), cash()) == (30 * USD, there(stripe))
    assert Transaction.objects.filter(kind="topup").count() == 1
    assert facade.books().balanced


def test_a_refund_that_the_bank_sends_back_returns_the_credit(stripe):
    org = paid(stripe)
    order(org)
    send()
    (row,) = stripe.objects("refund")
    assert available(org) == 0
    stripe.order("refund", refund=row["id"], status="failed")
    receive()
    replay()
    assert (available(org), cash()) == (50 * USD, there(stripe))
    assert refunds.refunds(org_ref=org)[0].state == "failed"
    assert facade.books().balanced


def test_a_refund_in_the_dashboard_is_booked_once_and_never_credited_again(stripe):
    org = paid(stripe)
    params: Any = {"payment_intent": stripe.objects("payment_intent")[0]["id"], "amount": 1500}
    options: Any = {"idempotency_key": "by-hand"}
    call(lambda client: client.v1.refunds.create(params, options))
    receive()
    replay()
    assert (available(org), cash()) == (35 * USD, there(stripe))
    assert Refund.objects.get().order is None
    assert Transaction.objects.filter(kind="refund").count() == 1
    assert facade.books().balanced


def test_a_refund_that_is_told_before_its_payment_credits_and_takes_once(stripe):
    org = open_org()
    card = save_card(stripe, org)
    topup(org, 50 * USD, card)
    with failing(stripe, "cut_after", "/v1/payment_intents"):
        send()  # paid, and nobody told us yet
    params: Any = {"payment_intent": stripe.objects("payment_intent")[0]["id"]}
    options: Any = {"idempotency_key": "by-hand"}
    call(lambda client: client.v1.refunds.create(params, options))
    poll.poll()
    late = StripeEvent.objects.filter(type="payment_intent.succeeded")
    kept = list(late)
    late.delete()
    while inbox.drain():
        pass
    assert available(org) == 0
    StripeEvent.objects.bulk_create(kept)
    while inbox.drain():
        pass
    hurry()
    send()
    assert (available(org), cash()) == (0, there(stripe))
    assert facade.books().balanced


def test_a_dispute_is_answered_from_the_ledger_and_won(stripe):
    org = paid(stripe, "4000000000000259")
    (view,) = disputes.disputes(org_ref=org)
    assert (view.state, view.amount_micro, disputes.open_orgs()) == (
        "needs_response",
        50 * USD,
        {org},
    )
    assert cash() == there(stripe)
    composed = disputes.evidence(dispute_id=view.id)
    with transaction.atomic():
        disputes.submit_evidence(
            dispute_id=view.id,
            submitted_by="staff",
            access_activity_log=composed.access_activity_log,
            uncategorized_text="winning_evidence",
        )
    with failing(stripe, "cut_after", "/v1/disputes"):
        send()
    hurry()
    send()
    receive()
    replay()
    (view,) = disputes.disputes(org_ref=org)
    assert (view.state, view.submitted_at is not None, disputes.open_orgs()) == ("won", True, set())
    assert stripe.objects("dispute")[0]["evidence_details"]["submission_count"] == 1
    assert (available(org), cash()) == (50 * USD, there(stripe))
    assert facade.books().balanced


def test_a_lost_dispute_takes_the_credit(stripe):
    org = paid(stripe, "4000000000000259")
    (row,) = stripe.objects("dispute")
    options: Any = {"idempotency_key": "accept"}
    call(lambda client: client.v1.disputes.close(row["id"], {}, options))
    receive()
    replay()
    assert disputes.disputes(org_ref=org)[0].state == "lost"
    assert (available(org), cash()) == (0, there(stripe))
    assert facade.books().balanced


def test_credit_notes_lower_an_open_invoice_and_then_the_paid_one_gives_credit(stripe):
    org = open_org()
    limit(org, 100 * USD)
    use(window(rent(org, price_micro_h=40 * USD), hour_of(now()) - timedelta(hours=1), 3600))
    with transaction.atomic():
        invoice = facade.close_period(org_ref=org, actor="staff")
    send()
    receive()

    def note(micro: int) -> str:
        with transaction.atomic():
            view = refunds.order_credit_note(
                invoice_id=invoice.id, amount_micro=micro, reason="wrong price", ordered_by="staff"
            )
        with failing(stripe, "cut_after", "/v1/credit_notes"):
            send()
        hurry()
        send()
        receive()
        return str(next(row.state for row in refunds.credit_notes() if row.id == view.id))

    assert note(15 * USD) == "succeeded"
    assert facade.balance(org_ref=org).spendable_micro == 75 * USD
    stripe.pay_page(facade.invoice(org_ref=org, invoice_id=invoice.id).hosted_url)
    receive()
    assert facade.invoice(org_ref=org, invoice_id=invoice.id).state == "paid"
    before = available(org)
    assert note(20 * USD) == "succeeded"
    assert available(org) == before + 20 * USD
    assert [row["total"] for row in stripe.objects("credit_note")] == [1500, 2000]
    by_hand: Any = {
        "invoice": stripe.objects("invoice")[0]["id"],
        "amount": 100,
        "out_of_band_amount": 100,
    }
    options: Any = {"idempotency_key": "by-hand"}
    made = call(lambda client: client.v1.credit_notes.create(by_hand, options))
    receive()
    replay()
    assert [row.stripe_id for row in facade.unknown_objects()] == [made.id]  # told, not booked
    assert (available(org), cash()) == (before + 20 * USD, there(stripe))
    assert facade.books().balanced


def test_one_click_that_is_sent_three_times_is_one_charge(stripe):
    """Lost before the charge and after it, both forgotten: the same key finds what was charged."""
    org = open_org()
    wish = topup(org, 50 * USD, save_card(stripe, org))
    for fault in ("cut_before", "cut_after"):
        with failing(stripe, fault, "/v1/payment_intents"):
            execute.drain()
        StripeCall.objects.update(must_look=False)
        hurry()
    send()
    receive()
    replay()
    sent = [row["idempotency_key"] for row in stripe.requests()]
    assert sent.count(f"topup:{wish}:1") == 3
    assert len(stripe.objects("payment_intent")) == 1
    assert (available(org), cash()) == (50 * USD, there(stripe))
