"""Invoices from draft to paid, and billing meters."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
import stripe

from tests.contract.conftest import Target


def _draft(target: Target, customer: str, **more: Any) -> Any:
    return target.v1.invoices.create({"customer": customer, "auto_advance": False, **more})


def _item(target: Target, invoice: Any, **more: Any) -> Any:
    params = {"customer": invoice.customer, "invoice": invoice.id, **more}
    return target.v1.invoice_items.create(params)


def _with_default_card(target: Target, name: str = "pm_card_visa") -> Any:
    owner = target.customer()
    card = target.saved_card(owner.id, name)
    return target.v1.customers.update(
        owner.id, {"invoice_settings": {"default_payment_method": card.id}}
    )


def test_draft_items_finalize_pay(target: Target) -> None:
    owner = _with_default_card(target)
    invoice = _draft(target, owner.id, metadata={"period": "2026-01"})
    assert (invoice.status, invoice.number, invoice.total) == ("draft", None, 0)
    hours = _item(
        target,
        invoice,
        description="H100 hours",
        unit_amount_decimal="199.99",
        quantity_decimal="10.5",
        metadata={"card": "h100"},
        period={"start": 1_760_000_000, "end": 1_760_003_600},
    )
    assert (hours.amount, hours.quantity_decimal) == (2100, Decimal("10.5"))
    _item(target, invoice, description="Disks", amount=333, currency="usd")
    draft = target.v1.invoices.retrieve(invoice.id)
    assert [(n.description, n.amount) for n in draft.lines.data] == [
        ("H100 hours", 2100),
        ("Disks", 333),
    ]
    assert (draft.total, draft.amount_due) == (2433, 2433)
    opened = target.v1.invoices.finalize_invoice(invoice.id)
    assert (opened.status, opened.amount_due) == ("open", 2433)
    assert opened.number
    assert opened.hosted_invoice_url.startswith("http")
    paid = target.v1.invoices.pay(invoice.id, {"expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 2433, 0)
    payment = paid.payments.data[0]
    assert (payment.status, payment.amount_paid) == ("paid", 2433)
    intent = target.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.customer) == ("succeeded", owner.id)
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        target.v1.invoices.pay(invoice.id)
    listed = target.v1.invoices.list({"customer": owner.id, "status": "paid"})
    assert [i.id for i in listed.data] == [invoice.id]
    by_intent = target.v1.invoice_payments.list({"invoice": invoice.id})
    assert [p.id for p in by_intent.data] == [payment.id]


def test_the_events_of_an_invoice(target: Target) -> None:
    control = target.control
    owner = _with_default_card(target)
    invoice = _draft(target, owner.id)
    _item(target, invoice, amount=1000)
    target.v1.invoices.finalize_invoice(invoice.id)
    target.v1.invoices.pay(invoice.id)
    types = [e["type"] for e in control.objects("event")]
    assert types[types.index("invoice.created") :] == [
        "invoice.created",
        "invoiceitem.created",
        "payment_intent.created",
        "invoice.finalized",
        "charge.succeeded",
        "charge.updated",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_numbers_count_up_per_customer(target: Target) -> None:
    owner = _with_default_card(target)
    numbers = []
    for _ in range(2):
        invoice = _draft(target, owner.id)
        _item(target, invoice, amount=500)
        numbers.append(target.v1.invoices.finalize_invoice(invoice.id).number)
    prefix = owner.invoice_prefix
    assert numbers == [f"{prefix}-0001", f"{prefix}-0002"]


@pytest.mark.parametrize(
    "money",
    [
        {},
        {"amount": 100, "unit_amount_decimal": "1"},
        {"amount": 100, "quantity": 2},
        {"unit_amount_decimal": "1", "quantity": 1, "quantity_decimal": "1"},
        {"unit_amount_decimal": "0.0000000000001"},
        {"unit_amount_decimal": "NaN"},
        {"unit_amount_decimal": "1", "quantity_decimal": "-1"},
    ],
)
def test_an_item_without_one_price_is_refused(target: Target, money: dict[str, Any]) -> None:
    invoice = _draft(target, target.customer().id)
    with pytest.raises(stripe.InvalidRequestError):
        _item(target, invoice, **money)
    assert target.v1.invoices.retrieve(invoice.id).lines.data == []


def test_items_change_while_draft_and_never_after(target: Target) -> None:
    owner = _with_default_card(target)
    invoice = _draft(target, owner.id)
    item = _item(target, invoice, unit_amount_decimal="100", quantity_decimal="3")
    target.v1.invoice_items.update(item.id, {"quantity_decimal": "4.25"})
    assert target.v1.invoices.retrieve(invoice.id).total == 425
    extra = _item(target, invoice, amount=50)
    target.v1.invoice_items.delete(extra.id)
    assert target.v1.invoices.finalize_invoice(invoice.id).total == 425
    for call in (
        lambda: _item(target, invoice, amount=1),
        lambda: target.v1.invoice_items.update(item.id, {"amount": 1}),
        lambda: target.v1.invoice_items.delete(item.id),
        lambda: target.v1.invoices.finalize_invoice(invoice.id),
        lambda: target.v1.invoices.delete(invoice.id),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()
    assert target.v1.invoices.retrieve(invoice.id).total == 425


def test_pending_items_join_only_when_asked(target: Target) -> None:
    owner = target.customer()
    target.v1.invoice_items.create({"customer": owner.id, "amount": 700, "currency": "usd"})
    assert _draft(target, owner.id).total == 0
    assert _draft(target, owner.id, pending_invoice_items_behavior="include").total == 700


def test_a_decline_leaves_the_invoice_open(target: Target) -> None:
    owner = _with_default_card(target, "pm_card_chargeCustomerFail")
    invoice = _draft(target, owner.id)
    _item(target, invoice, amount=1000)
    target.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.CardError) as declined:
        target.v1.invoices.pay(invoice.id)
    assert declined.value.code == "card_declined"
    still = target.v1.invoices.retrieve(invoice.id)
    assert (still.status, still.attempted, still.attempt_count) == ("open", True, 1)
    good = target.saved_card(owner.id)
    assert target.v1.invoices.pay(invoice.id, {"payment_method": good.id}).status == "paid"


def test_a_challenge_of_an_invoice_is_402_and_can_be_finished(target: Target) -> None:
    control = target.control
    owner = _with_default_card(target, "pm_card_authenticationRequired")
    invoice = _draft(target, owner.id)
    _item(target, invoice, amount=1000)
    target.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.CardError) as refused:
        target.v1.invoices.pay(invoice.id)
    assert refused.value.code == "invoice_payment_intent_requires_action"
    [intent] = control.objects("payment_intent")
    assert intent["status"] == "requires_action"
    control.submit(intent["next_action"]["redirect_to_url"]["url"], action="complete")
    assert target.v1.invoices.retrieve(invoice.id).status == "paid"


def test_without_a_card_paying_is_refused(target: Target) -> None:
    invoice = _draft(target, target.customer().id)
    _item(target, invoice, amount=1000)
    target.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError, match="default payment method"):
        target.v1.invoices.pay(invoice.id)


def test_send_and_pay_on_the_hosted_page(target: Target) -> None:
    control = target.control
    owner = target.customer()
    with pytest.raises(stripe.InvalidRequestError):
        _draft(target, owner.id, collection_method="send_invoice")
    invoice = _draft(target, owner.id, collection_method="send_invoice", days_until_due=14)
    _item(target, invoice, amount=1000, description="GPU hours")
    sent = target.v1.invoices.send_invoice(invoice.id)
    assert (sent.status, sent.due_date - sent.created) == ("open", 14 * 24 * 3600)
    assert control.pay_page(sent.hosted_invoice_url) == sent.hosted_invoice_url
    assert target.v1.invoices.retrieve(invoice.id).status == "paid"


def test_void_and_uncollectible(target: Target) -> None:
    owner = _with_default_card(target)
    invoice = _draft(target, owner.id)
    _item(target, invoice, amount=1000)
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.invoices.void_invoice(invoice.id)
    target.v1.invoices.finalize_invoice(invoice.id)
    assert target.v1.invoices.mark_uncollectible(invoice.id).status == "uncollectible"
    assert target.v1.invoices.void_invoice(invoice.id).status == "void"
    [intent] = target.v1.payment_intents.list({"customer": owner.id}).data
    assert intent.status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.invoices.pay(invoice.id)


def test_an_amount_below_the_minimum_goes_to_the_next_invoice(target: Target) -> None:
    owner = _with_default_card(target)
    small = _draft(target, owner.id)
    _item(target, small, amount=30)
    closed = target.v1.invoices.finalize_invoice(small.id)
    assert (closed.status, closed.amount_due, closed.ending_balance) == ("paid", 0, 30)
    assert target.v1.customers.retrieve(owner.id).balance == 30
    following = _draft(target, owner.id)
    _item(target, following, amount=100)
    opened = target.v1.invoices.finalize_invoice(following.id)
    assert (opened.total, opened.amount_due, opened.ending_balance) == (100, 130, 0)
    assert target.v1.customers.retrieve(owner.id).balance == 0
    target.v1.invoices.void_invoice(following.id)
    assert target.v1.customers.retrieve(owner.id).balance == 30


def test_automatic_advancing_is_501(target: Target) -> None:
    _ = target.control
    with pytest.raises(stripe.APIError) as missing:
        target.v1.invoices.create({"customer": target.customer().id, "auto_advance": True})
    assert missing.value.http_status == 501


# -- meters -------------------------------------------------------------------------------------


def _meter(target: Target, unique: str, formula: str = "sum") -> Any:
    return target.v1.billing.meters.create(
        {
            "display_name": "GPU seconds",
            "event_name": f"gpu_{unique}",
            "default_aggregation": {"formula": formula},
        }
    )


def _use(target: Target, meter: Any, customer: str, value: str, **more: Any) -> Any:
    return target.v1.billing.meter_events.create(
        {
            "event_name": meter.event_name,
            "payload": {"stripe_customer_id": customer, "value": value},
            **more,
        }
    )


def test_a_meter_and_its_name(target: Target, unique: str) -> None:
    meter = _meter(target, unique)
    assert meter.customer_mapping.event_payload_key == "stripe_customer_id"
    with pytest.raises(stripe.InvalidRequestError):
        _meter(target, unique)
    assert target.v1.billing.meters.deactivate(meter.id).status == "inactive"
    assert target.v1.billing.meters.reactivate(meter.id).status == "active"
    renamed = target.v1.billing.meters.update(meter.id, {"display_name": "Seconds"})
    assert renamed.display_name == "Seconds"


def test_a_meter_event_counts_once_per_identifier(target: Target, unique: str) -> None:
    control = target.control
    meter = _meter(target, unique)
    owner, other = target.customer(), target.customer()
    _use(target, meter, owner.id, "25", identifier=f"{unique}:1")
    _use(target, meter, owner.id, "17", identifier=f"{unique}:2")
    _use(target, meter, other.id, "1000")
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier"):
        _use(target, meter, owner.id, "25", identifier=f"{unique}:1")
    hour = int(time.time()) // 3600 * 3600
    total = {"customer": owner.id, "start_time": hour, "end_time": hour + 7200}
    [one] = target.v1.billing.meters.event_summaries.list(meter.id, total).data
    assert one.aggregated_value == 42
    hours = target.v1.billing.meters.event_summaries.list(
        meter.id, {**total, "value_grouping_window": "hour"}
    ).data
    assert sum(h.aggregated_value for h in hours) == 42
    # After a day the identifier is free again, as Stripe promises 24 hours only.
    control.advance(24 * 3600 + 1)
    _use(target, meter, owner.id, "25", identifier=f"{unique}:1")


def test_meter_times_and_windows(target: Target, unique: str) -> None:
    meter = _meter(target, unique)
    owner = target.customer()
    now = int(time.time())
    for wrong in (now - 36 * 86400, now + 3600):
        with pytest.raises(stripe.InvalidRequestError):
            _use(target, meter, owner.id, "1", timestamp=wrong)
    with pytest.raises(stripe.InvalidRequestError, match="aligned"):
        target.v1.billing.meters.event_summaries.list(
            meter.id, {"customer": owner.id, "start_time": 61, "end_time": 120}
        )


def test_what_stripe_refuses_later_never_counts(target: Target, unique: str) -> None:
    control = target.control
    meter = _meter(target, unique)
    owner = target.customer()
    _use(target, meter, owner.id, "1.5")
    _use(target, meter, "cus_nobody", "1")
    target.v1.billing.meter_events.create(
        {"event_name": "nothing", "payload": {"stripe_customer_id": owner.id, "value": "1"}}
    )
    assert [e["error"] for e in control.objects("meter_error")] == [
        "meter_event_invalid_value",
        "meter_event_customer_not_found",
        "no_meter",
    ]
    assert control.order("report_meter_errors") == 3
    assert control.order("report_meter_errors") == 0
    v2: Any = target.client.v2
    [report] = v2.core.events.list({"object_id": meter.id}).data
    assert report.type == "v1.billing.meter.error_report_triggered"
    kinds = [(e.code, e.error_count) for e in report.data.reason.error_types]
    assert kinds == [("meter_event_invalid_value", 1), ("meter_event_customer_not_found", 1)]
    [lost] = v2.core.events.list({"types": ["v1.billing.meter.no_meter_found"]}).data
    assert lost.data.reason.error_count == 1
    minute = int(time.time()) // 60 * 60
    [one] = target.v1.billing.meters.event_summaries.list(
        meter.id, {"customer": owner.id, "start_time": minute - 60, "end_time": minute + 120}
    ).data
    assert one.aggregated_value == 0


def test_an_adjustment_takes_an_event_back(target: Target, unique: str) -> None:
    _ = target.control
    meter = _meter(target, unique)
    owner = target.customer()
    _use(target, meter, owner.id, "5", identifier=f"{unique}:a")
    target.v1.billing.meter_event_adjustments.create(
        {
            "event_name": meter.event_name,
            "type": "cancel",
            "cancel": {"identifier": f"{unique}:a"},
        }
    )
    minute = int(time.time()) // 60 * 60
    [one] = target.v1.billing.meters.event_summaries.list(
        meter.id, {"customer": owner.id, "start_time": minute - 60, "end_time": minute + 120}
    ).data
    assert one.aggregated_value == 0
