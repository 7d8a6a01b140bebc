"""Refunds in the portal, and the staff pages: orders, the second person, disputes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.contracts.disputes import DisputeState
from billing.models import Adjustment, Dispute, Payment, Refund, RefundOrder
from kernel.clock import now
from kernel.ids import public
from marketplace.accounts import join
from marketplace.models import User
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, read
from tests.market import USD


def member(name: str) -> Visitor:
    email = f"{name}@example.com"
    join.make_staff(email=email, password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email=email), backend="django.contrib.auth.backends.ModelBackend"
    )
    return visitor


def test_a_renter_asks_for_a_refund_and_sees_it(renter: Visitor) -> None:
    page = renter.get("/billing")
    sent = {"amount": "25.00", "reason": "no longer needed"}
    for _ in range(2):  # a double click
        answer = renter.send(page, "/billing/refunds", **sent)
        assert (answer.status_code, answer["Location"]) == (303, "/billing#refunds")
    assert Refund.objects.count() == 1
    shown = renter.get("/billing").text
    assert "On its way" in shown
    assert "no longer needed" in shown
    refused = renter.send(page, "/billing/refunds", idempotency_key="b", amount="ten", reason="x")
    assert (refused.status_code, "Write an amount" in refused.text) == (422, True)


def test_a_large_order_shows_approve_to_others_only(settings, renter: Visitor) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 10 * USD
    ann, ben = member("ann"), member("ben")
    org = renter.person.principal.org.public_id
    page = ann.get("/staff/returns")
    order = {"organization": org, "amount": "50.00", "reason": "closing"}
    assert ann.send(page, "/staff/returns/refund", **order).status_code == 303
    waiting = RefundOrder.objects.get()
    path = f"/staff/returns/refund/{public('refund', waiting.id)}/approve"
    assert path not in ann.get("/staff/returns").text
    refused = ann.post(path, {"idempotency_key": "own"})
    assert (refused.status_code, "another member" in refused.text) == (409, True)
    page = ben.get("/staff/returns")
    assert path in page.text
    assert ben.send(page, path).status_code == 303
    assert Refund.objects.exists()
    small = {"organization": org, "amount": "-5.00", "against": "revenue", "reason": "a slip"}
    assert ben.send(page, "/staff/returns/adjustment", **small).status_code == 303
    assert Adjustment.objects.get().amount_micro == -5 * USD
    wrong = ben.send(page, "/staff/returns/adjustment", idempotency_key="w", organization="x")
    assert wrong.status_code == 422
    assert ben.post("/staff/returns/gift", {"idempotency_key": "g"}).status_code == 404
    assert renter.get("/staff/returns").status_code == 403


@pytest.mark.usefixtures("renter")
def test_staff_read_and_submit_the_evidence_of_a_dispute() -> None:
    payment = Payment.objects.latest("id")
    row = Dispute.objects.create(
        org_ref=payment.org_ref,
        payment=payment,
        stripe_id="du_1",
        state=DisputeState.NEEDS_RESPONSE,
        reason="fraudulent",
        amount_minor=payment.amount_minor,
        due_by=now() + timedelta(days=7),
    )
    ann = member("ann")
    path = f"/staff/disputes/{public('dispute', row.id)}"
    assert path in ann.get("/staff/disputes").text
    page = ann.get(path)
    assert "from our ledger" in page.text
    sent = {"uncategorized_text": "<b>They used it.</b>", "access_activity_log": "All day."}
    key = read(page.text).forms[-1]["fields"]["idempotency_key"]
    assert ann.post(path, {**sent, "idempotency_key": key})["Location"] == path
    after = ann.get(path).text
    assert "On its way to Stripe" in after
    assert "&lt;b&gt;They used it." in after
    assert "Submit to Stripe" not in after
    assert ann.get("/staff/disputes/dsp_x").status_code == 404
