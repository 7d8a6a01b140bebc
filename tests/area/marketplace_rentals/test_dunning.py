"""An unpaid invoice: reminded on days 3 and 7, nothing new on day 10, stopped on 14, lost on 60."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import facade as billing
from billing.contracts import InvoiceState, PaymentState
from billing.invoicing.converge import invoice_seen
from billing.models import Invoice
from billing.payments.facts import InvoiceFact, PaymentFact
from kernel.ids import public
from marketplace.accounts.phrases import spoken
from marketplace.models import AuditEntry, EmailToken, Letter, Rental
from marketplace.rentals import charge as charging
from marketplace.rentals import dunning
from marketplace.rentals import follow as following
from tests.area.marketplace_accounts import people
from tests.area.marketplace_rentals.test_life import NOON, World, clock  # noqa: F401
from tests.market import USD, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
PAGE = "https://invoice.stripe.example/pay"


def fact(invoice: Invoice, state: InvoiceState, *payments: PaymentFact) -> InvoiceFact:
    return InvoiceFact("in_1", state, invoice.total_minor, "USD", "GY-7", PAGE, payments)


@pytest.fixture
def debtor(clock) -> tuple[World, Invoice]:  # noqa: F811
    """A post-paid renter with a running rental and an invoice over its first hour."""
    renter, supply = make_renter(credit=0), make_supply(4)
    with transaction.atomic():
        billing.set_credit_limit(org_ref=renter.org, limit_micro=100_000 * USD)
    body = order(supply.offer, max_hours=..., no_limit=True)
    rental = renter.call("POST", "/rentals", body)[1]
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run()
    following.follow()
    world.seen(NOON + timedelta(hours=1, minutes=1))
    charging.charge()
    with transaction.atomic():
        view = billing.close_period(org_ref=renter.org, actor="staff")
    invoice = Invoice.objects.get(id=view.id)
    assert invoice_seen(invoice.id, fact(invoice, InvoiceState.OPEN))
    return world, invoice


def at(world: World, **after: float) -> str:
    """That long after the invoice's date; the rental's state then."""
    world.seen(NOON + timedelta(days=7, hours=1, minutes=1) + timedelta(**after))
    dunning.run()
    return str(world.show()["state"])


def mails() -> list[str]:
    rows = EmailToken.objects.filter(purpose="money").order_by("id")
    return [about.partition("\n")[0] for about in rows.values_list("about", flat=True)]


def test_an_invoice_that_no_card_paid_is_told_once(debtor):
    world, invoice = debtor
    Letter.objects.all().delete()
    at(world, days=-7)
    assert Letter.objects.count() == 0, "a card may be charged this very minute"
    at(world, days=-6)
    at(world, days=-5)
    letter = Letter.objects.get(event="invoice.open")
    assert letter.facts["name"] == "GY-7"
    assert "USD, due by" in spoken(letter.facts["text"])
    assert letter.facts["path"] == f"/billing/invoices/{public('invoice', invoice.id)}"


def rent(world: World) -> tuple[int, str]:
    status, answer = world.renter.call("POST", "/rentals", order(world.supply.offer))
    return status, answer.get("url", "")


def test_from_a_reminder_to_the_loss(debtor):
    world, invoice = debtor
    at(world, days=2, hours=23)
    assert mails() == []
    for day in (3, 4, 7, 9):
        assert at(world, days=day) == "running"
    assert mails() == ["Invoice GY-7 is overdue", "Invoice GY-7 is a week overdue"]
    assert rent(world)[0] == 202
    assert at(world, days=10) == "running"
    assert rent(world) == (402, PAGE)
    assert at(world, days=13, hours=23) == "running"
    assert at(world, days=14) == "interrupting"
    assert world.show()["reason"] == "overdue"
    assert at(world, days=14, minutes=9) == "interrupting"
    assert at(world, days=14, minutes=10) == "stopping"
    assert world.show()["fault"] == "funds"
    states = Rental.objects.filter(organization=world.renter.org).values_list("state", flat=True)
    assert set(states) == {"stopping"}, "what was on its way up needs no notice"
    at(world, days=60)
    invoice.refresh_from_db()
    assert invoice.state == "uncollectible"
    assert AuditEntry.objects.filter(action="invoice.write_off").count() == 1
    assert len(mails()) == 5
    at(world, days=61)
    assert len(mails()) == 5
    assert rent(world) == (402, PAGE)
    assert billing.books().balanced


def test_a_payment_withdraws_the_notice_and_lets_rent_again(debtor):
    world, invoice = debtor
    assert at(world, days=14) == "interrupting"
    payment = PaymentFact("pi_1", PaymentState.SUCCEEDED, invoice.total_minor, "USD", None, None)
    assert invoice_seen(invoice.id, fact(invoice, InvoiceState.PAID, payment))
    assert at(world, days=14, minutes=5) == "running"
    assert rent(world)[0] == 202


def test_staff_write_an_invoice_off(debtor):
    _, invoice = debtor
    staff = people.api_of(people.staff())
    path = f"staff/invoices/{public('invoice', invoice.id)}/write-off"
    answer = staff.post(path)
    assert (answer.status_code, answer.data["state"]) == (200, "uncollectible")
    assert staff.post(path).status_code == 409
    entry = AuditEntry.objects.get(action="invoice.write_off")
    assert entry.actor.startswith("staff:")
