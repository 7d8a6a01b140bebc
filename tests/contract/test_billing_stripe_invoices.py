"""Post-paid: a period closed here, written, verified, finalized and paid at Stripe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from billing import facade
from billing.facade import dunning
from billing.models import Account, Invoice, Payment, StripeCall
from billing.stripe_gateway.client import call
from kernel.clock import floor_second, hour_of, now
from kernel.errors import Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import USD, limit, open_org, rent, use, window
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
)

pytestmark = pytest.mark.django_db(transaction=True)


def close(org):
    with transaction.atomic():
        return facade.close_period(org_ref=org, actor="staff@example.com")


def used(org, seconds, **changes):
    """A rental of ``org`` that was used for so many seconds of the last full hours."""
    rental = rent(org, **changes)
    begin = hour_of(now()) - timedelta(hours=1)
    use(window(rental, begin, seconds))
    return rental


@pytest.fixture
def org(stripe):
    opened = open_org("Post-paid")
    limit(opened, 100 * USD)
    return opened


def test_from_use_to_paid_invoice(stripe, org):
    save_card(stripe, org)
    used(org, 3599, price_micro_h=4 * USD)
    used(org, 1, price_micro_h=4 * USD)
    used(org, 1000, gpus=1, price_micro_h=1_234_567, accelerator="huawei-ascend-910b")
    spent = 4 * USD * 3599 // 3600 + 4 * USD // 3600 + 1_234_567 * 1000 // 3600
    before = facade.balance(org_ref=org)
    view = close(org)
    assert view.state == "draft"
    assert view.total_minor == spent // 10_000
    assert view.carried_micro == spent % 10_000
    assert [line.quantity for line in view.lines] == ["0.277778", "2.000000"]
    assert sum(line.amount_micro for line in view.lines) == spent
    send()
    after = facade.invoice(org_ref=org, invoice_id=view.id)
    assert after.state == "paid"
    assert after.number
    receive()
    (there,) = stripe.objects("invoice")
    assert there["total"] == view.total_minor
    assert there["status"] == "paid"
    payment = Payment.objects.get()
    assert payment.kind == "invoice"
    assert payment.amount_minor == view.total_minor
    now_ = facade.balance(org_ref=org)
    assert now_.available_micro == before.available_micro + view.total_minor * 10_000
    assert now_.spendable_micro == 100 * USD + now_.available_micro
    assert facade.books().balanced
    kinds = [row.kind for row in facade.transactions(org_ref=org, limit=50)]
    assert kinds.count("invoice") == 1


def test_unpaid_invoices_keep_using_the_credit_limit(stripe, org):
    used(org, 3600, price_micro_h=60 * USD, provider_micro_h=USD)
    spendable = facade.balance(org_ref=org).spendable_micro
    view = close(org)
    send()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "open"
    assert facade.balance(org_ref=org).spendable_micro == spendable
    assert facade.books().balanced
    with pytest.raises(Refusal):
        limit(org, 59 * USD)
    page = facade.invoice(org_ref=org, invoice_id=view.id).hosted_url
    stripe.pay_page(page)
    receive()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "paid"
    assert facade.balance(org_ref=org).spendable_micro == spendable + 60 * USD
    assert facade.books().balanced


def test_the_rest_of_a_cent_goes_on_the_next_invoice(stripe, org):
    totals, exact = 0, 0
    for _ in range(7):
        used(org, 3333, price_micro_h=777_777)
        exact += 777_777 * 3333 // 3600
        view = close(org)
        totals += view.total_minor
    assert totals == exact // 10_000
    assert view.carried_micro == exact % 10_000
    send()
    assert sum(row["total"] for row in stripe.objects("invoice")) == totals
    receivable = Account.objects.get(kind="tenant", owner_ref=org).receivable_micro
    assert receivable == totals * 10_000
    assert facade.books().balanced


def test_what_was_given_back_is_taken_off_the_next_invoice_once(stripe, org):
    rental = used(org, 3600, price_micro_h=4 * USD)
    at = hour_of(now())
    with transaction.atomic():
        given = facade.outage(
            case_ref=new_id(),
            rental_ref=rental,
            from_at=at,
            to_at=at + timedelta(seconds=1801),
            by_provider=False,
        )
    assert given == 4 * USD * 1801 // 3600
    view = close(org)
    assert [line.amount_micro for line in view.lines] == [4 * USD, -given]
    assert view.total_minor * 10_000 + view.carried_micro == 4 * USD - given
    send()
    (bill,) = stripe.objects("invoice")
    assert bill["total"] == view.total_minor
    used(org, 3600, price_micro_h=4 * USD)
    assert len(close(org).lines) == 1
    assert facade.books().balanced


def test_closing_twice_invoices_once(stripe, org):
    used(org, 3600)
    close(org)
    with pytest.raises(Refusal):
        close(org)
    assert Invoice.objects.count() == 1


def test_prepaid_and_tiny_periods_are_refused(stripe, org):
    with pytest.raises(Refusal, match=r"0\.50"):
        close(org)
    used(org, 1, price_micro_h=USD)
    with pytest.raises(Refusal, match=r"0\.50"):
        close(org)
    prepaid = open_org()
    with pytest.raises(Refusal, match="pays in advance"):
        close(prepaid)
    assert not Invoice.objects.exists()


def test_use_before_the_credit_limit_was_paid_by_credit_and_is_not_invoiced(stripe):
    from tests.area.billing.conftest import credit

    org = open_org()
    credit(org, 50 * USD)
    used(org, 3600)
    limit(org, 100 * USD)
    with pytest.raises(Refusal):
        close(org)
    used(org, 1800)
    assert close(org).total_minor == 200


def test_a_total_that_differs_at_stripe_stops_before_finalization(stripe, org):
    used(org, 3600)
    view = close(org)
    # Draft and lines are written by separate intents: meddle in between.
    while not StripeCall.objects.filter(kind="invoice_line", state="done").exists():
        from billing.stripe_gateway import execute

        execute.drain(limit=1)
    params: Any = {
        "customer": stripe.objects("customer")[0]["id"],
        "invoice": Invoice.objects.get().stripe_id,
        "amount": 1,
        "currency": "usd",
    }
    options: Any = {"idempotency_key": "meddle"}
    call(lambda client: client.v1.invoice_items.create(params, options))
    send()
    after = facade.invoice(org_ref=org, invoice_id=view.id)
    assert after.state == "draft"
    assert "401" in Invoice.objects.get().alarm
    assert stripe.objects("invoice")[0]["status"] == "draft"
    assert StripeCall.objects.get(kind="invoice_finalize").state == "stuck"
    assert facade.books().balanced


def test_a_declined_card_leaves_the_invoice_open_with_the_reason(stripe, org):
    save_card(stripe, org, "4000000000000341")
    used(org, 3600)
    view = close(org)
    send()
    receive()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "open"
    assert "declined" in Invoice.objects.get().alarm
    assert facade.books().balanced


def test_an_invoice_voided_at_stripe_is_owed_again(stripe, org):
    used(org, 3600)
    before = facade.balance(org_ref=org)
    view = close(org)
    send()
    there = str(Invoice.objects.get().stripe_id)
    options: Any = {"idempotency_key": "void"}
    call(lambda client: client.v1.invoices.void_invoice(there, {}, options))
    receive()
    receive()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "void"
    after = facade.balance(org_ref=org)
    assert (after.available_micro, after.spendable_micro) == (
        before.available_micro,
        before.spendable_micro,
    )
    assert facade.books().balanced


def test_the_month_closes_by_itself_once(stripe, org, django_db_blocker):
    from django.db import connection

    from billing.invoicing.month_end import close_due

    begin = floor_second(hour_of(now())) - timedelta(hours=1)
    rental = rent(org)
    use(window(rental, begin, 3600))
    following = (begin.replace(day=1) + timedelta(days=32)).replace(
        day=1, hour=0, minute=30, second=0
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [following.isoformat()])
        try:
            assert close_due() == 0  # half past midnight: the last hour may still be settled
            cursor.execute(
                "SELECT set_config('gpuyard.now', %s, false)",
                [(following + timedelta(hours=1)).isoformat()],
            )
            assert close_due() == 1
            assert close_due() == 0
        finally:
            cursor.execute("SELECT set_config('gpuyard.now', '', false)")
    assert Invoice.objects.get().actor == "system"


def test_a_write_off_is_uncollectible_at_stripe_and_can_still_be_paid(stripe, org):
    used(org, 3600, price_micro_h=60 * USD, provider_micro_h=USD)
    view = close(org)
    send()
    with transaction.atomic():
        dunning.write_off(invoice_id=view.id)
    send()
    receive()
    (there,) = stripe.objects("invoice")
    assert there["status"] == "uncollectible"
    page = facade.invoice(org_ref=org, invoice_id=view.id).hosted_url
    stripe.pay_page(page)
    receive()
    assert facade.invoice(org_ref=org, invoice_id=view.id).state == "paid"
    assert facade.books().balanced
