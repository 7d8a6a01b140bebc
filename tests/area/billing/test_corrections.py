"""Credit notes and adjustments: within their bounds, by two people, booked once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from billing import facade
from billing.contracts import InvoiceState, PaymentState
from billing.contracts.refunds import AdjustmentView, CreditNoteView, OrderKind
from billing.facade import refunds as door
from billing.invoicing.converge import invoice_seen
from billing.invoicing.credit_note import note_refused, note_seen
from billing.models import Account, AccountKind, CreditNote, Invoice, Posting, StripeCall
from billing.payments.facts import InvoiceFact, PaymentFact
from billing.payments.return_facts import CreditNoteFact
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import DAY, USD, credit, limit, open_org, rent, start, use, window

pytestmark = pytest.mark.django_db

ANN, BEN = "staff:usr_ann", "staff:usr_ben"


def total(kind: AccountKind) -> int:
    return sum(Posting.objects.filter(account__kind=kind).values_list("amount_micro", flat=True))


def invoiced(at) -> tuple[UUID, Invoice]:
    """A post-paid organization with an open invoice of 12 USD."""
    org = open_org()
    limit(org, 100 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=4))
    use(*(window(rental, DAY + timedelta(hours=hour), 3600) for hour in range(3)))
    with transaction.atomic():
        view = facade.close_period(org_ref=org, actor="staff")
    assert view.total_minor == 1200
    assert invoice_seen(view.id, seen(InvoiceState.OPEN))
    return org, Invoice.objects.get()


def seen(state: InvoiceState, *payments: PaymentFact) -> InvoiceFact:
    return InvoiceFact("in_1", state, 1200, "USD", "GY-1", None, payments)


def charge(minor: int) -> PaymentFact:
    return PaymentFact("pi_1", PaymentState.SUCCEEDED, minor, "USD", None, None)


def note(invoice: Invoice, amount: int, *, by: str = ANN) -> CreditNoteView:
    with transaction.atomic():
        return door.order_credit_note(
            invoice_id=invoice.id, amount_micro=amount, reason="wrong price", ordered_by=by
        )


def there(view: CreditNoteView, **changes) -> CreditNoteFact:
    values: dict[str, Any] = {
        "stripe_id": f"cn_{view.id.hex}",
        "invoice": "in_1",
        "total_minor": view.amount_micro // 10_000,
        "currency": "USD",
        "number": "GY-1-CN-01",
        "void": False,
    }
    return CreditNoteFact(**(values | changes))


def adjust(org: UUID, amount: int, *, by: str = ANN, **changes) -> AdjustmentView:
    values = {"against": "platform_cost", "reason": "a mistake of ours", "linked": None}
    with transaction.atomic():
        return door.order_adjustment(
            org_ref=org, amount_micro=amount, ordered_by=by, **(values | changes)
        )


def test_a_note_on_an_open_invoice_lowers_what_is_owed_once_stripe_has_it(at):
    org, invoice = invoiced(at)
    spendable = facade.balance(org_ref=org).spendable_micro
    earned = total(AccountKind.REVENUE)
    view = note(invoice, 5 * USD)
    assert total(AccountKind.REVENUE) == earned  # not before Stripe has it
    for _ in range(2):
        assert note_seen(view.id, there(view))
    assert total(AccountKind.INVOICE_AR) == -7 * USD
    assert total(AccountKind.REVENUE) == earned - 5 * USD
    assert Account.objects.get(kind="tenant").receivable_micro == 7 * USD
    assert facade.balance(org_ref=org).spendable_micro == spendable + 5 * USD
    assert facade.books().balanced
    assert invoice_seen(invoice.id, seen(InvoiceState.PAID, charge(700)))
    invoice.refresh_from_db()
    assert (invoice.state, invoice.alarm) == ("paid", "")
    assert Account.objects.get(kind="tenant").receivable_micro == 0
    assert facade.books().balanced


def test_a_lower_payment_that_comes_before_its_note_waits_for_it(at):
    _, invoice = invoiced(at)
    view = note(invoice, 5 * USD)
    invoice_seen(invoice.id, seen(InvoiceState.PAID, charge(700)))
    assert Invoice.objects.get().state == "open"
    note_seen(view.id, there(view))
    invoice_seen(invoice.id, seen(InvoiceState.PAID, charge(700)))
    assert (Invoice.objects.get().state, Invoice.objects.get().alarm) == ("paid", "")
    assert facade.books().balanced


def test_an_invoice_voided_after_a_note_is_owed_again_without_it(at):
    org, invoice = invoiced(at)
    before = facade.balance(org_ref=org).spendable_micro
    view = note(invoice, 5 * USD)
    note_seen(view.id, there(view))
    invoice_seen(invoice.id, seen(InvoiceState.VOID))
    assert facade.balance(org_ref=org).spendable_micro == before + 5 * USD
    assert total(AccountKind.INVOICE_AR) == 0
    assert facade.books().balanced


def test_a_note_on_a_paid_invoice_becomes_credit(at):
    org, invoice = invoiced(at)
    invoice_seen(invoice.id, seen(InvoiceState.PAID, charge(1200)))
    before = facade.balance(org_ref=org).available_micro
    view = note(invoice, 12 * USD)
    assert CreditNote.objects.get().paid
    note_seen(view.id, there(view))
    assert facade.balance(org_ref=org).available_micro == before + 12 * USD
    assert facade.books().balanced


def test_notes_together_never_pass_the_invoice(at):
    _, invoice = invoiced(at)
    first = note(invoice, 8 * USD)
    with pytest.raises(InvalidRequest) as refusal:
        note(invoice, 5 * USD)
    assert "4.00 USD" in str(refusal.value.extra)
    note_refused(first.id, "refused")
    note(invoice, 12 * USD)
    with pytest.raises(IntegrityError, match="billing_invoice_noted"), transaction.atomic():
        CreditNote.objects.filter(id=first.id).update(state=PaymentState.PENDING)
    for amount in (0, -USD, 5):
        with pytest.raises(InvalidRequest):
            note(invoice, amount)
    with pytest.raises(NotFound), transaction.atomic():
        door.order_credit_note(invoice_id=new_id(), amount_micro=USD, reason="none", ordered_by=ANN)


def test_a_note_that_differs_at_stripe_or_is_voided_there_is_not_booked_and_told(at):
    _, invoice = invoiced(at)
    view = note(invoice, 5 * USD)
    assert note_seen(view.id, there(view, total_minor=501))
    (told,) = door.credit_notes()
    assert (told.state, "501" in told.failure) == ("pending", True)
    assert total(AccountKind.INVOICE_AR) == -12 * USD
    assert next(v.value for v in facade.vitals() if v.name == "returns_to_check") == 1
    assert not note_seen(new_id(), there(view))


def test_a_large_note_waits_for_a_second_person(settings, at):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    _, invoice = invoiced(at)
    view = note(invoice, 5 * USD)
    assert view.state == "waiting"
    assert not StripeCall.objects.filter(kind="credit_note").exists()
    with pytest.raises(Refusal, match="another member"), transaction.atomic():
        door.approve(kind=OrderKind.CREDIT_NOTE, order_id=view.id, approved_by=ANN)
    with transaction.atomic():
        assert (
            door.approve(kind=OrderKind.CREDIT_NOTE, order_id=view.id, approved_by=BEN).state
            == "pending"
        )
    assert StripeCall.objects.get(kind="credit_note").key == f"cn:{view.id}"
    assert Invoice.objects.get().noted_micro == 5 * USD


def test_a_draft_has_nothing_to_credit(at):
    _, invoice = invoiced(at)
    Invoice.objects.update(state=InvoiceState.DRAFT)
    with pytest.raises(Refusal) as refusal:
        note(invoice, USD)
    assert refusal.value.slug == "invalid_transition"


def test_adjustments_give_and_take_and_stop_at_the_floor():
    org = open_org()
    credit(org, 20 * USD)
    adjust(org, 5 * USD)
    assert total(AccountKind.PLATFORM_COST) == -5 * USD
    view = adjust(org, -15 * USD, against="revenue")
    assert (view.state, total(AccountKind.REVENUE)) == ("done", 15 * USD)
    with pytest.raises(InvalidRequest) as refusal:
        adjust(org, -11 * USD)
    assert "10.0000 USD" in str(refusal.value.extra)
    for wrong in ({"against": "tenant"}, {"linked": new_id()}, {"reason": " "}):
        with pytest.raises(InvalidRequest):
            adjust(org, USD, **wrong)
    with pytest.raises(InvalidRequest):
        adjust(org, 0)
    topup = facade.transactions(org_ref=org, limit=9)[-1]
    assert topup.kind == "topup"
    assert adjust(org, USD, linked=topup.id).linked == topup.id
    with pytest.raises(InvalidRequest):
        adjust(open_org(), USD, linked=topup.id)  # somebody else's
    assert facade.books().balanced


def test_a_large_adjustment_waits_for_a_second_person(settings):
    settings.GPUYARD_SECOND_PERSON_ABOVE = 10 * USD
    org = open_org()
    view = adjust(org, 11 * USD)
    assert (view.state, facade.balance(org_ref=org).available_micro) == ("waiting", 0)
    with pytest.raises(Refusal, match="another member"), transaction.atomic():
        door.approve(kind=OrderKind.ADJUSTMENT, order_id=view.id, approved_by=ANN)
    with transaction.atomic():
        assert (
            door.approve(kind=OrderKind.ADJUSTMENT, order_id=view.id, approved_by=BEN).state
            == "done"
        )
    assert facade.balance(org_ref=org).available_micro == 11 * USD
    assert [row.text for row in facade.transactions(org_ref=org, limit=9)] == [
        "Adjusted by our staff"
    ]
