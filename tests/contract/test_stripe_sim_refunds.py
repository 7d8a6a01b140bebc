"""Refunds: limits, money, events, and the ones that fail later."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from devstack.stripe.resources.charges import PAYS_OUT_AFTER_S, fee_of
from devstack.stripe.resources.refunds import SETTLES_AFTER_S
from tests.contract.conftest import Receiver, Target


def _paid(target: Target, card: str = "pm_card_visa", amount: int = 1000) -> Any:
    owner = target.customer()
    return target.charge(owner.id, target.saved_card(owner.id, card).id, amount)


def _types(target: Target, count: int) -> list[str]:
    return [e["type"] for e in target.control.objects("event")[-count:]]


def test_a_refund_in_parts_never_exceeds_the_charge(target: Target) -> None:
    paid = _paid(target)
    refunds = target.v1.refunds
    part = refunds.create(
        {
            "payment_intent": paid.id,
            "amount": 300,
            "reason": "requested_by_customer",
            "metadata": {"refund": "7"},
            "expand": ["balance_transaction", "charge"],
        }
    )
    assert (part.status, part.amount, part.metadata["refund"]) == ("succeeded", 300, "7")
    entry = part.balance_transaction
    assert (entry.type, entry.amount, entry.fee, entry.net) == ("refund", -300, 0, -300)
    assert (part.charge.amount_refunded, part.charge.refunded) == (300, False)
    with pytest.raises(stripe.InvalidRequestError, match=r"\(\$7.01\).*\(\$7.00\)") as over:
        refunds.create({"charge": paid.latest_charge, "amount": 701})
    assert over.value.param == "amount"
    rest = refunds.create({"charge": paid.latest_charge, "expand": ["charge.refunds"]})
    assert (rest.amount, rest.charge.refunded) == (700, True)
    assert [r.id for r in rest.charge.refunds.data] == [rest.id, part.id]
    with pytest.raises(stripe.InvalidRequestError) as again:
        refunds.create({"payment_intent": paid.id, "amount": 1})
    assert again.value.code == "charge_already_refunded"
    assert [r.id for r in refunds.list({"payment_intent": paid.id}).data] == [rest.id, part.id]
    assert refunds.update(part.id, {"metadata": {"seen": "1"}}).metadata["seen"] == "1"
    assert refunds.retrieve(part.id).metadata.to_dict() == {"refund": "7", "seen": "1"}
    with pytest.raises(stripe.InvalidRequestError, match="requires_action"):
        refunds.cancel(part.id)
    for wrong in ({}, {"charge": "ch_none"}, {"charge": paid.latest_charge, "amount": 0}):
        with pytest.raises(stripe.InvalidRequestError):
            refunds.create(wrong)
    unpaid = target.v1.payment_intents.create({"amount": 500, "currency": "usd"})
    with pytest.raises(stripe.InvalidRequestError, match="successful charge"):
        refunds.create({"payment_intent": unpaid.id})
    # Stripe keeps the fee of the charge.
    assert target.v1.balance.retrieve().pending[0].amount == -fee_of(1000)


def test_the_events_of_a_refund_and_their_snapshots(target: Target, receiver: Receiver) -> None:
    control = target.control
    control.endpoint(receiver.url, receiver.secret, ["refund.created", "charge.refunded"])
    control.fail("double", event="charge.refunded")
    paid = _paid(target)
    refund = target.v1.refunds.create({"payment_intent": paid.id, "amount": 400})
    assert _types(target, 2) == ["refund.created", "charge.refunded"]
    created, first, second = sorted(receiver.wait(3), key=lambda e: str(e.type), reverse=True)
    assert (created.data.object.id, created.data.object.status) == (refund.id, "succeeded")
    assert first.id == second.id
    assert (first.data.object.amount_refunded, first.data.object.id) == (400, paid.latest_charge)


@pytest.mark.parametrize("kind", ["cut_after", "cut_before"])
def test_a_refund_whose_answer_is_lost_is_made_once(target: Target, kind: str) -> None:
    paid = _paid(target)
    target.control.fail(kind, method="POST", path="/v1/refunds")
    given = {"payment_intent": paid.id, "amount": 400}, {"idempotency_key": "refund:1"}
    with pytest.raises(stripe.APIConnectionError):
        target.v1.refunds.create(*given)
    made = target.v1.refunds.create(*given)
    assert [r.id for r in target.v1.refunds.list({"payment_intent": paid.id}).data] == [made.id]


def test_a_refund_that_fails_later_brings_the_money_back(target: Target) -> None:
    control = target.control
    paid = _paid(target, "pm_card_refundFail")
    refund = target.v1.refunds.create({"payment_intent": paid.id})
    assert refund.status == "succeeded"
    control.advance(SETTLES_AFTER_S)
    assert _types(target, 3) == ["refund.updated", "charge.refund.updated", "refund.failed"]
    failed = target.v1.refunds.retrieve(
        refund.id, {"expand": ["failure_balance_transaction", "charge"]}
    )
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    entry = failed.failure_balance_transaction
    assert (entry.type, entry.net, entry.source) == ("refund_failure", 1000, refund.id)
    assert (failed.charge.amount_refunded, failed.charge.refunded) == (0, False)
    control.advance(PAYS_OUT_AFTER_S)
    assert target.v1.balance.retrieve().available[0].amount == 1000 - fee_of(1000)
    # It may be tried again, and a bank may send back what a good card took.
    assert target.v1.refunds.create({"payment_intent": paid.id, "amount": 10}).amount == 10
    good = target.v1.refunds.create({"payment_intent": _paid(target).id})
    assert control.order("refund", refund=good.id, status="failed")["status"] == "failed"
    with pytest.raises(ControlError, match="does not become"):
        control.order("refund", refund=good.id, status="succeeded")


def test_a_pending_refund_settles_or_is_canceled(target: Target) -> None:
    control = target.control
    first = target.v1.refunds.create({"payment_intent": _paid(target, "pm_card_pendingRefund").id})
    assert (first.status, first.pending_reason) == ("pending", "processing")
    second_paid = _paid(target, "pm_card_pendingRefund")
    second = target.v1.refunds.create({"payment_intent": second_paid.id})
    control.order("refund", refund=second.id, status="canceled")
    assert target.v1.refunds.retrieve(second.id).status == "canceled"
    assert target.v1.charges.retrieve(second_paid.latest_charge).amount_refunded == 0
    control.advance(SETTLES_AFTER_S)
    settled = target.v1.refunds.retrieve(first.id)
    assert (settled.status, settled.pending_reason) == ("succeeded", None)
    assert _types(target, 2) == ["refund.updated", "charge.refund.updated"]
