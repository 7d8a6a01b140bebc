"""Credit notes: less to pay on an open invoice, money back on a paid one."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.resources.charges import fee_of
from tests.contract.conftest import Target


def _opened(target: Target, *amounts: int) -> Any:
    owner = target.customer()
    card = target.saved_card(owner.id)
    default = {"invoice_settings": {"default_payment_method": card.id}}
    target.v1.customers.update(owner.id, default)
    made = target.v1.invoices.create({"customer": owner.id, "auto_advance": False})
    for amount in amounts:
        item = {"customer": owner.id, "invoice": made.id, "amount": amount, "description": "Hours"}
        target.v1.invoice_items.create(item)
    return target.v1.invoices.finalize_invoice(made.id)


def test_a_note_on_an_open_invoice_lowers_what_remains(target: Target) -> None:
    v1 = target.v1
    invoice = _opened(target, 3_000, 700)
    line = invoice.lines.data[1].id
    given = {
        "invoice": invoice.id,
        "reason": "order_change",
        "memo": "outage",
        "metadata": {"note": "1"},
        "lines": [{"type": "invoice_line_item", "invoice_line_item": line, "amount": 500}],
    }
    assert v1.credit_notes.preview(given).total == 500
    assert v1.credit_notes.list({"invoice": invoice.id}).data == []
    note = v1.credit_notes.create(given)
    assert (note.type, note.pre_payment_amount, note.post_payment_amount, note.number) == (
        "pre_payment",
        500,
        0,
        f"{invoice.number}-CN-01",
    )
    now = v1.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert (now.total, now.amount_due, now.amount_remaining, now.status) == (
        3_700,
        3_200,
        3_200,
        "open",
    )
    assert now.payments.data[0].payment.payment_intent.amount == 3_200
    for wrong in (
        {**given, "lines": [{**given["lines"][0], "amount": 201}]},
        {"invoice": invoice.id, "amount": 3_201},
        {"invoice": invoice.id, "amount": 100, "refund_amount": 100},
        {"invoice": invoice.id},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            v1.credit_notes.create(wrong)
    voided = v1.credit_notes.void_credit_note(note.id)
    assert (voided.status, v1.invoices.retrieve(invoice.id).amount_due) == ("void", 3_700)
    again = v1.credit_notes.create({"invoice": invoice.id, "amount": 700})
    assert [n.amount for n in v1.credit_notes.line_items.list(again.id).data] == [700]
    paid = v1.invoices.pay(invoice.id)
    assert (paid.status, paid.amount_paid) == ("paid", 3_000)
    with pytest.raises(stripe.InvalidRequestError, match="open"):
        v1.credit_notes.void_credit_note(again.id)
    types = [e["type"] for e in target.control.objects("event")]
    assert types.count("credit_note.created") == 2
    assert "credit_note.voided" in types
    whole = _opened(target, 900)
    v1.credit_notes.create({"invoice": whole.id, "amount": 900})
    closed = v1.invoices.retrieve(whole.id)
    assert (closed.status, closed.amount_paid, closed.amount_due) == ("paid", 0, 0)


def test_a_note_on_a_paid_invoice_says_where_the_money_goes(target: Target) -> None:
    v1 = target.v1
    invoice = v1.invoices.pay(_opened(target, 5_000).id, {"expand": ["payments"]})
    given = {"invoice": invoice.id, "amount": 1_000}
    with pytest.raises(stripe.InvalidRequestError, match=r"\$9.00.*\$10.00"):
        v1.credit_notes.create({**given, "refund_amount": 600, "credit_amount": 300})
    split = {"refund_amount": 600, "credit_amount": 300, "out_of_band_amount": 100}
    note = v1.credit_notes.create({**given, **split, "expand": ["refunds.refund"]})
    assert (note.type, note.post_payment_amount, note.out_of_band_amount) == (
        "post_payment",
        1_000,
        100,
    )
    assert [r.refund.amount for r in note.refunds] == [600]
    assert v1.customers.retrieve(invoice.customer).balance == -300
    [entry] = v1.customers.balance_transactions.list(invoice.customer).data
    assert (entry.id, entry.amount) == (note.customer_balance_transaction, -300)
    intent = invoice.payments.data[0].payment.payment_intent
    refund = v1.refunds.create({"payment_intent": intent, "amount": 400})
    linked = {**given, "amount": 400, "refunds": [{"refund": refund.id, "amount_refunded": 400}]}
    assert v1.credit_notes.create(linked).refunds[0].refund == refund.id
    with pytest.raises(stripe.InvalidRequestError, match="no refund of this invoice"):
        v1.credit_notes.create(linked)
    with pytest.raises(stripe.InvalidRequestError, match=r"\$36.00"):
        v1.credit_notes.create({**given, "amount": 3_601, "refund_amount": 3_601})
    now = v1.invoices.retrieve(invoice.id)
    assert (now.status, now.amount_due, now.post_payment_credit_notes_amount) == (
        "paid",
        5_000,
        1_400,
    )
    assert v1.balance.retrieve().pending[0].amount == 5_000 - fee_of(5_000) - 1_000
