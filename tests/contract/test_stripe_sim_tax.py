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


def _calculate(target: Target, amount: int, **details: Any) -> Any:
    where = {"address": AT_HOME, "address_source": "billing", **details}
    line = {"amount": amount, "reference": "credit", "tax_behavior": "exclusive"}
    return target.v1.tax.calculations.create(
        {"currency": "usd", "line_items": [line], "customer_details": where}
    )


def test_a_calculation_says_the_tax_and_why(target: Target) -> None:
    target.control.order("tax", percentage="8.875")
    found = _calculate(target, 1_000, tax_ids=[{"type": "us_ein", "value": "12-3456789"}])
    assert (found.tax_amount_exclusive, found.amount_total) == (89, 1_089)
    [part] = found.tax_breakdown
    assert (part.amount, part.taxability_reason) == (89, "standard_rated")
    assert part.tax_rate_details.percentage_decimal == "8.875"
    assert [(one.type, one.value) for one in found.customer_details.tax_ids] == [
        ("us_ein", "12-3456789")
    ]
    again = target.v1.tax.calculations.retrieve(found.id, {"expand": ["line_items"]})
    assert [(line.amount, line.amount_tax) for line in again.line_items.data] == [(1_000, 89)]
    for override, reason in (
        ("reverse_charge", "reverse_charge"),
        ("customer_exempt", "customer_exempt"),
    ):
        free = _calculate(target, 1_000, taxability_override=override)
        assert (free.tax_amount_exclusive, free.tax_breakdown[0].taxability_reason) == (0, reason)
    owner = target.customer(address=AT_HOME, tax_exempt="exempt")
    line = {"amount": 500, "reference": "credit"}
    of_customer = target.v1.tax.calculations.create(
        {"currency": "usd", "line_items": [line], "customer": owner.id}
    )
    assert of_customer.tax_amount_exclusive == 0
    with pytest.raises(stripe.InvalidRequestError) as nowhere:
        target.v1.tax.calculations.create(
            {"currency": "usd", "line_items": [line], "customer": target.customer().id}
        )
    assert nowhere.value.code == "customer_tax_location_invalid"
    target.control.advance(91 * 24 * 3600)
    with pytest.raises(stripe.InvalidRequestError, match="expired"):
        target.v1.tax.calculations.retrieve(found.id)


def test_a_calculation_becomes_one_transaction_and_is_reversed_to_the_cent(
    target: Target, unique: str
) -> None:
    target.control.order("tax", percentage="19")
    found, v1 = _calculate(target, 1_001), target.v1
    sale = {"calculation": found.id, "reference": unique}
    made = v1.tax.transactions.create_from_calculation(sale)
    assert (made.type, made.reference) == ("transaction", unique)
    with pytest.raises(stripe.InvalidRequestError):
        v1.tax.transactions.create_from_calculation(sale | {"reference": f"{unique}-2"})
    with pytest.raises(stripe.InvalidRequestError, match="reference"):
        v1.tax.transactions.create_from_calculation(
            {"calculation": _calculate(target, 5).id, "reference": unique}
        )
    back = {"original_transaction": made.id, "mode": "partial", "expand": ["line_items"]}
    taken = [0, 0]
    for number, amount in enumerate((400, 400, 391)):
        part = v1.tax.transactions.create_reversal(
            back | {"flat_amount": -amount, "reference": f"{unique}-r{number}"}
        )
        [line] = part.line_items.data
        assert line.amount + line.amount_tax == -amount
        taken = [taken[0] + line.amount, taken[1] + line.amount_tax]
    assert taken == [-1_001, -190]
    with pytest.raises(stripe.InvalidRequestError):
        v1.tax.transactions.create_reversal(
            back | {"flat_amount": -1, "reference": f"{unique}-more"}
        )


def test_tax_amounts_of_ones_own_stand_on_the_lines_of_a_draft(target: Target) -> None:
    v1, owner = target.v1, target.customer(address=AT_HOME)
    made = v1.invoices.create({"customer": owner.id})
    for amount in (1_003, 507):
        v1.invoice_items.create({"customer": owner.id, "invoice": made.id, "amount": amount})
    rate = {"display_name": "VAT", "inclusive": False, "percentage": "19", "country": "DE"}
    lines = v1.invoices.line_items.list(made.id).data
    taxes = [
        {"amount": cents, "taxable_amount": line.amount, "tax_rate_data": rate}
        for cents, line in zip((190, 97), lines, strict=True)
    ]
    set_ = [{"id": n.id, "tax_amounts": [tax]} for n, tax in zip(lines, taxes, strict=True)]
    v1.invoices.update_lines(made.id, {"lines": set_})
    opened = v1.invoices.finalize_invoice(made.id)
    assert (opened.subtotal, opened.total) == (1_510, 1_797)
    [tax] = opened.total_taxes
    assert (tax.amount, tax.taxable_amount) == (287, 1_510)
    assert [line.taxes[0].amount for line in opened.lines.data] == [190, 97]
    rate_of = v1.tax_rates.retrieve(tax.tax_rate_details.tax_rate)
    assert (rate_of.percentage, rate_of.active, rate_of.country) == (19, False, "DE")
    with pytest.raises(stripe.InvalidRequestError):
        v1.invoices.update_lines(made.id, {"lines": set_})
    draft = v1.invoices.create({"customer": owner.id, "automatic_tax": {"enabled": True}})
    v1.invoice_items.create({"customer": owner.id, "invoice": draft.id, "amount": 5})
    [line] = v1.invoices.line_items.list(draft.id).data
    with pytest.raises(stripe.InvalidRequestError, match="automatic tax"):
        v1.invoices.update_lines(draft.id, {"lines": [{"id": line.id, "tax_amounts": taxes[:1]}]})
