"""Automatic tax on Checkout and invoices, and what decides it: address, exemption, tax ids."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from tests.contract.conftest import Target

AT_HOME = {"country": "US", "postal_code": "94103", "state": "CA"}


def _session(target: Target, **more: Any) -> Any:
    price = {"currency": "usd", "unit_amount": 999, "product_data": {"name": "Credit"}}
    return target.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": "https://example.com/ok",
            "automatic_tax": {"enabled": True},
            **more,
        }
    )


def test_checkout_taxes_once_it_knows_where(target: Target) -> None:
    control, v1 = target.control, target.v1
    free = _session(target)
    control.pay_page(free.url)
    assert v1.checkout.sessions.retrieve(free.id).total_details.amount_tax == 0
    control.order("tax", percentage="8.875")
    with pytest.raises(ControlError, match="percentage"):
        control.order("tax", percentage="much")
    owner = target.customer()
    with pytest.raises(stripe.InvalidRequestError) as nowhere:
        _session(target, customer=owner.id)
    assert nowhere.value.code == "customer_tax_location_invalid"
    asked = _session(target, customer=owner.id, customer_update={"address": "auto"})
    assert (asked.automatic_tax.status, asked.amount_total) == ("requires_location_inputs", 999)
    card = {"card_number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    status, page = control.submit(asked.url, country="US", total="999", **card)
    assert (status, "Pay $10.88" in page) == (200, True)
    assert control.submit(asked.url, country="US", total="1088", **card)[0] == 303
    paid = v1.checkout.sessions.retrieve(asked.id, {"expand": ["line_items", "payment_intent"]})
    assert (paid.total_details.amount_tax, paid.amount_subtotal, paid.amount_total) == (
        89,
        999,
        1_088,
    )
    assert paid.payment_intent.amount_received == 1_088
    assert [(n.amount_tax, n.amount_total) for n in paid.line_items.data] == [(89, 1_088)]
    now = v1.customers.retrieve(owner.id, {"expand": ["tax"]})
    assert (now.address.country, now.tax.automatic_tax) == ("US", "supported")
    v1.customers.update(owner.id, {"tax_exempt": "exempt"})
    assert _session(target, customer=owner.id).amount_total == 999


def test_an_invoice_is_taxed_by_line_and_keeps_what_it_was_finalized_with(target: Target) -> None:
    control, v1 = target.control, target.v1
    control.order("tax", percentage="19")
    owner = target.customer()
    made = v1.invoices.create({"customer": owner.id, "automatic_tax": {"enabled": True}})
    for amount in (1_003, 1_003):
        item = {"customer": owner.id, "invoice": made.id, "amount": amount, "description": "Hours"}
        v1.invoice_items.create(item)
    with pytest.raises(stripe.InvalidRequestError) as nowhere:
        v1.invoices.finalize_invoice(made.id)
    assert nowhere.value.code == "customer_tax_location_invalid"
    v1.customers.update(owner.id, {"address": AT_HOME})
    tax_id = v1.customers.tax_ids.create(owner.id, {"type": "eu_vat", "value": "DE000000000"})
    assert (tax_id.verification.status, tax_id.country) == ("verified", "DE")
    opened = v1.invoices.finalize_invoice(made.id)
    # 19 % of 10.03 is 1.9057: each line is rounded by itself.
    assert (opened.subtotal, opened.total_excluding_tax, opened.total, opened.amount_due) == (
        2_006,
        2_006,
        2_388,
        2_388,
    )
    [tax] = opened.total_taxes
    assert (tax.amount, tax.taxable_amount, tax.tax_behavior) == (382, 2_006, "exclusive")
    assert [line.taxes[0].amount for line in opened.lines.data] == [191, 191]
    assert [(t.type, t.value) for t in opened.customer_tax_ids] == [("eu_vat", "DE000000000")]
    assert v1.customers.tax_ids.delete(owner.id, tax_id.id).deleted is True
    assert v1.customers.tax_ids.list(owner.id).data == []
    control.order("tax", percentage="7")
    v1.customers.update(owner.id, {"tax_exempt": "reverse"})
    assert [n.taxes[0].amount for n in v1.invoices.line_items.list(made.id).data] == [191, 191]
    note = v1.credit_notes.create({"invoice": made.id, "amount": 1_194})
    assert (note.subtotal, note.total, note.total_taxes[0].amount) == (1_003, 1_194, 191)
    line = {"type": "invoice_line_item", "invoice_line_item": opened.lines.data[0].id}
    rest = v1.credit_notes.preview({"invoice": made.id, "lines": [{**line, "amount": 1_003}]})
    assert (rest.total, rest.total - rest.subtotal) == (1_194, 191)
    second = v1.invoices.create({"customer": owner.id, "automatic_tax": {"enabled": True}})
    v1.invoice_items.create({"customer": owner.id, "invoice": second.id, "amount": 500})
    [reverse] = v1.invoices.finalize_invoice(second.id).total_taxes
    assert (reverse.amount, reverse.taxability_reason) == (0, "reverse_charge")
