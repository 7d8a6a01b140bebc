"""Post-paid exposure: the floor holds through invoices, and losses are booked and booked back."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.db.models import Sum

from billing import facade
from billing.contracts import InvoiceState, PaymentState
from billing.facade import dunning
from billing.invoicing.converge import invoice_seen
from billing.models import Account, Invoice, Posting, StripeCall
from billing.payments.facts import InvoiceFact, PaymentFact
from kernel.errors import Refusal
from tests.area.billing.conftest import DAY, USD, end, limit, open_org, rent, start, use, window

pytestmark = pytest.mark.django_db


def fact(invoice: Invoice, state: InvoiceState, *payments: PaymentFact) -> InvoiceFact:
    name = f"in_{invoice.id.hex}"
    total = invoice.total_minor
    return InvoiceFact(name, state, total, "USD", "GY-1", "https://example.com/pay", payments)


def invoiced(org: UUID) -> Invoice:
    """Close the period and let Stripe say that the invoice is finalized."""
    with transaction.atomic():
        view = facade.close_period(org_ref=org, actor="staff")
    invoice = Invoice.objects.get(id=view.id)
    assert invoice_seen(invoice.id, fact(invoice, InvoiceState.OPEN))
    invoice.refresh_from_db()
    return invoice


def paid(invoice: Invoice) -> None:
    payment = PaymentFact(
        "pi_1", PaymentState.SUCCEEDED, invoice.total_minor, "USD", fee_minor=None, failure=None
    )
    assert invoice_seen(invoice.id, fact(invoice, InvoiceState.PAID, payment))
    invoice.refresh_from_db()


def summed(kind: str) -> int:
    rows = Posting.objects.filter(account__kind=kind)
    return int(rows.aggregate(sum=Sum("amount_micro", default=0))["sum"])


def exposure(org: UUID) -> int:
    """What the organization owes or may come to owe: unpaid invoices, unbilled use and holds."""
    row = Account.objects.get(kind="tenant", owner_ref=org)
    return int((row.receivable_micro or 0) - (row.balance_micro or 0))


def test_it_bills_balances_to_minus_8000_after_progressive_invoicing_never(at):
    """The known failure of others: each invoice cleared the debt, so the limit began anew."""
    at(DAY)
    org = open_org()
    limit(org, 1000 * USD)
    moment, refused = DAY, 0
    for _ in range(12):
        try:
            rental = rent(org, price_micro_h=300 * USD)
        except Refusal as refusal:
            refused += refusal.slug == "insufficient_funds"
            continue
        start(rental, moment)
        for _ in range(2):
            at(moment + timedelta(hours=1))
            use(window(rental, moment, 3600))
            moment += timedelta(hours=1)
            assert exposure(org) <= 1000 * USD
        end(rental)
        invoiced(org)
        assert exposure(org) <= 1000 * USD
    view = facade.balance(org_ref=org)
    assert refused > 5
    assert view.spendable_micro >= 0
    assert exposure(org) <= 1000 * USD
    assert facade.books().balanced


@pytest.fixture
def owed(at) -> tuple[UUID, Invoice]:
    """800 USD invoiced on a limit of 1,000, and 100 used since."""
    at(DAY)
    org = open_org()
    limit(org, 1000 * USD)
    rental = rent(org, price_micro_h=800 * USD, provider_micro_h=USD)
    at(DAY + timedelta(hours=1))
    use(window(rental, DAY, 3600))
    end(rental)
    invoice = invoiced(org)
    rental = rent(org, price_micro_h=100 * USD, provider_micro_h=USD)
    at(DAY + timedelta(hours=2))
    use(window(rental, DAY + timedelta(hours=1), 3600))
    end(rental)
    return org, invoice


def test_a_write_off_is_a_loss_once_and_lends_nothing_again(owed):
    org, invoice = owed
    before = facade.balance(org_ref=org)
    assert before.spendable_micro == 100 * USD
    with transaction.atomic():
        view = dunning.write_off(invoice_id=invoice.id)
    assert view.state == "uncollectible"
    after = facade.balance(org_ref=org)
    assert (after.spendable_micro, after.credit_limit_micro) == (100 * USD, 200 * USD)
    assert (summed("bad_debt"), summed("invoice_ar")) == (-800 * USD, 0)
    assert StripeCall.objects.filter(kind="invoice_write_off").count() == 1
    assert invoice_seen(invoice.id, fact(invoice, InvoiceState.UNCOLLECTIBLE))
    assert summed("bad_debt") == -800 * USD
    with pytest.raises(Refusal), transaction.atomic():
        dunning.write_off(invoice_id=invoice.id)
    assert facade.books().balanced


def test_marked_uncollectible_at_stripe_is_the_same_loss(owed):
    _, invoice = owed
    for _ in range(2):
        assert invoice_seen(invoice.id, fact(invoice, InvoiceState.UNCOLLECTIBLE))
    assert summed("bad_debt") == -800 * USD
    assert facade.books().balanced


def test_a_late_payment_of_a_written_off_invoice_is_booked_back(owed):
    org, invoice = owed
    with transaction.atomic():
        dunning.write_off(invoice_id=invoice.id)
    for _ in range(2):
        paid(invoice)
    assert invoice.state == "paid"
    assert (summed("bad_debt"), summed("invoice_ar"), summed("stripe_cash")) == (0, 0, -800 * USD)
    assert facade.balance(org_ref=org).spendable_micro == 100 * USD
    assert dunning.overdue() == []
    assert facade.books().balanced


def test_a_payment_that_overtakes_the_write_off_pays(owed):
    _, invoice = owed
    paid(invoice)
    with pytest.raises(Refusal), transaction.atomic():
        dunning.write_off(invoice_id=invoice.id)
    assert summed("bad_debt") == 0
    assert facade.books().balanced


def test_overdue_counts_from_a_week_after_finalization(owed, at):
    org, invoice = owed
    due = invoice.finalized_at + timedelta(days=7)
    at(due - timedelta(seconds=1))
    assert dunning.overdue() == []
    at(due)
    (late,) = dunning.overdue(org_ref=org)
    assert (late.id, late.due_at, late.total_minor) == (invoice.id, due, 80_000)
    assert dunning.overdue(org_ref=open_org()) == []
