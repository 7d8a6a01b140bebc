"""Disputes: money that a bank takes back, and how each ends."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from devstack.stripe.resources.charges import PAYS_OUT_AFTER_S, fee_of
from devstack.stripe.resources.disputes import ANSWER_WITHIN_S, FEE, INQUIRY_ENDS_S
from tests.contract.conftest import Target


def _paid(target: Target, card: str, amount: int = 10_000) -> Any:
    owner = target.customer()
    return target.charge(owner.id, target.saved_card(owner.id, card).id, amount)


def _of(target: Target, paid: Any) -> Any:
    [dispute] = target.v1.disputes.list({"payment_intent": paid.id}).data
    return dispute


def _types(target: Target) -> list[str]:
    types = [e["type"] for e in target.control.objects("event")]
    return [t.removeprefix("charge.dispute.") for t in types if "dispute" in t]


def _available(target: Target) -> int:
    target.control.advance(PAYS_OUT_AFTER_S)
    return int(target.v1.balance.retrieve().available[0].amount)


def test_a_disputed_charge_loses_its_money_and_the_fee_and_is_won_back(target: Target) -> None:
    paid = _paid(target, "pm_card_createDispute")
    assert paid.status == "succeeded"
    dispute = _of(target, paid)
    assert (dispute.status, dispute.reason, dispute.amount) == (
        "needs_response",
        "fraudulent",
        10_000,
    )
    assert dispute.evidence_details.due_by == dispute.created + ANSWER_WITHIN_S
    [taken] = dispute.balance_transactions
    assert (taken.type, taken.reporting_category, taken.source) == (
        "adjustment",
        "dispute",
        dispute.id,
    )
    assert (taken.amount, taken.fee, taken.net) == (-10_000, FEE, -11_500)
    assert target.v1.charges.retrieve(paid.latest_charge).disputed is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        target.v1.refunds.create({"payment_intent": paid.id})
    assert refused.value.code == "charge_disputed"
    assert _available(target) == -fee_of(10_000) - FEE
    staged = target.v1.disputes.update(
        dispute.id,
        {"evidence": {"product_description": "8 hours of H100"}, "submit": False},
    )
    assert (staged.status, staged.evidence_details.has_evidence) == ("needs_response", True)
    won = target.v1.disputes.update(
        dispute.id,
        {"evidence": {"uncategorized_text": "winning_evidence"}, "metadata": {"case": "1"}},
    )
    assert (won.status, won.metadata["case"], won.evidence_details.submission_count) == (
        "won",
        "1",
        1,
    )
    back = won.balance_transactions[1]
    assert (back.net, back.reporting_category) == (10_000, "dispute_reversal")
    assert _available(target) == 10_000 - fee_of(10_000) - FEE
    assert _types(target) == [
        "created",
        "funds_withdrawn",
        "updated",
        "updated",
        "updated",
        "funds_reinstated",
        "closed",
    ]
    for call in (
        lambda: target.v1.disputes.update(dispute.id, {"evidence": {"customer_name": "x"}}),
        lambda: target.v1.disputes.close(dispute.id),
    ):
        with pytest.raises(stripe.InvalidRequestError):
            call()


def test_a_dispute_is_lost_by_evidence_by_closing_and_by_silence(target: Target) -> None:
    control = target.control
    charge = [_paid(target, "pm_card_visa").latest_charge for _ in range(4)]
    ordered = [control.order("dispute", charge=c, amount=4_000)["id"] for c in charge]
    with pytest.raises(ControlError, match="disputed already"):
        control.order("dispute", charge=charge[0])
    target.v1.disputes.update(ordered[0], {"evidence": {"uncategorized_text": "losing_evidence"}})
    assert target.v1.disputes.close(ordered[1]).status == "lost"
    target.v1.disputes.update(ordered[2], {"evidence": {"customer_name": "A. Renter"}})
    assert target.v1.disputes.retrieve(ordered[2]).status == "under_review"
    control.advance(ANSWER_WITHIN_S)
    late = target.v1.disputes.retrieve(ordered[3])
    assert (late.status, late.evidence_details.past_due) == ("lost", True)
    assert control.order("decide_dispute", dispute=ordered[2], status="won")["status"] == "won"
    with pytest.raises(ControlError, match="does not become"):
        control.order("decide_dispute", dispute=ordered[2], status="lost")
    assert _types(target).count("closed") == 4
    assert _available(target) == 4 * (10_000 - fee_of(10_000) - FEE) - 3 * 4_000
    receipt = {"evidence": {"receipt": "file_1"}}
    with pytest.raises(stripe.APIError, match="this simulator does not"):
        target.v1.disputes.update(late.id, receipt)


def test_an_inquiry_takes_no_money_until_it_escalates(target: Target) -> None:
    control = target.control
    paid = _paid(target, "pm_card_createDisputeInquiry")
    inquiry = _of(target, paid)
    assert (inquiry.status, inquiry.is_charge_refundable) == ("warning_needs_response", True)
    assert inquiry.balance_transactions == []
    target.v1.refunds.create({"payment_intent": paid.id})
    assert target.v1.disputes.retrieve(inquiry.id).status == "warning_closed"
    second = _of(target, _paid(target, "pm_card_createDisputeInquiry"))
    evidence = {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}
    escalated = target.v1.disputes.update(second.id, evidence)
    assert (escalated.status, len(escalated.balance_transactions)) == ("needs_response", 1)
    third = _of(target, _paid(target, "pm_card_createDisputeInquiry"))
    control.advance(ANSWER_WITHIN_S)
    assert target.v1.disputes.retrieve(second.id).status == "lost"
    assert target.v1.disputes.retrieve(third.id).status == "warning_needs_response"
    control.advance(INQUIRY_ENDS_S)
    assert target.v1.disputes.retrieve(third.id).status == "warning_closed"


def test_a_dispute_fails_the_refund_that_is_pending(target: Target) -> None:
    paid = _paid(target, "pm_card_pendingRefund")
    refund = target.v1.refunds.create({"payment_intent": paid.id, "amount": 1_000})
    target.control.order("dispute", charge=paid.latest_charge)
    failed = target.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == (
        "failed",
        "charge_for_pending_refund_disputed",
    )
