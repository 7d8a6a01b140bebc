"""Refunds, corrections and disputes over the API: who may, the second person, once per key."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db import DatabaseError
from django.test import Client

from billing import facade as billing
from billing.contracts import InvoiceState
from billing.contracts.disputes import DisputeState
from billing.models import Dispute, Invoice, Payment, Refund, StripeCall, StripeEvent, Transaction
from billing.payments import webhook
from kernel.clock import now
from kernel.ids import public
from marketplace.models import AuditEntry, Organization
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.market import USD, Renter, make_renter

pytestmark = pytest.mark.django_db


@pytest.fixture
def renter(db: None) -> Renter:
    return make_renter(credit=100 * USD)


def staff() -> Api:
    return people.api_of(people.staff())


def available(renter: Renter) -> str:
    return str(renter.call("GET", "/billing/balance")[1]["available"])


def test_a_renter_refunds_itself_once_per_key_within_its_limit(settings, renter: Renter) -> None:
    settings.GPUYARD_SELF_REFUND_LIMIT = 40 * USD
    body = {"amount": "30.00", "reason": "no longer needed"}
    made = [renter.raw("POST", "/billing/refunds", body, key="r-1") for _ in range(2)]
    assert [status for status, _ in made] == [202, 202]
    assert made[0] == made[1]
    assert (available(renter), Refund.objects.count()) == ("70.0000", 1)
    status, listed = renter.call("GET", "/billing/refunds")
    assert (status, listed["items"][0]["amount"], listed["items"][0]["state"]) == (
        200,
        "30.0000",
        "pending",
    )
    assert "ordered_by" not in listed["items"][0]
    status, problem = renter.call("POST", "/billing/refunds", {"amount": "all", "reason": "rest"})
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    assert "10.00 USD by yourself" in problem["errors"]["amount"][0]
    assert AuditEntry.objects.get(action="refund.order").details["amount"] == "30.0000"
    assert make_renter(credit=0).call("GET", "/billing/refunds")[1]["items"] == []


def test_refunds_need_a_proven_address_and_an_unfrozen_account(renter: Renter) -> None:
    body = {"amount": "all", "reason": "no longer needed"}
    stranger = make_renter(credit=0, verified=False)
    assert stranger.call("POST", "/billing/refunds", body)[1]["type"].endswith("email_unverified")
    Organization.objects.filter(pk=renter.principal.org.pk).update(state="frozen")
    for path, sent in (("/billing/refunds", body), ("/billing/topups", {"amount": "25"})):
        status, problem = renter.call("POST", path, sent)
        assert (status, problem["type"]) == (403, "/problems/account_frozen")
    assert not Refund.objects.exists()


def test_above_the_limit_another_member_of_the_staff_approves(settings, renter: Renter) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 50 * USD
    ann, ben = staff(), staff()
    org = renter.principal.org.public_id
    body = {"organization": org, "amount": "all", "reason": "closing the account"}
    made = ann.post("staff/refunds", body)
    assert (made.status_code, made.data["state"], made.data["parts"]) == (202, "waiting", [])
    assert available(renter) == "100.0000"
    path = f"staff/refunds/{made.data['id']}/approve"
    own = ann.post(path)
    assert (own.status_code, own.data["type"]) == (409, "/problems/invalid_transition")
    assert "another member" in own.data["detail"]
    assert not StripeCall.objects.filter(kind="refund").exists()
    done = ben.post(path)
    assert (done.status_code, done.data["state"], done.data["organization"]) == (
        202,
        "pending",
        org,
    )
    assert available(renter) == "0.0000"
    assert ben.post(path).status_code == 409
    actors = dict(AuditEntry.objects.values_list("action", "actor"))
    assert actors["refund.order"] != actors["refund.approve"]
    assert len(ann.get("staff/refunds").data["items"]) == 1


def test_staff_adjust_a_balance_and_see_the_list_page_by_page(renter: Renter) -> None:
    ann, org = staff(), renter.principal.org.public_id
    for amount in ("5.00", "-2.50", "0.000001"):
        body = {"organization": org, "amount": amount, "reason": "a mistake of ours"}
        assert ann.post("staff/adjustments", body).status_code == 201
    assert available(renter) == "102.500001"
    first = ann.get("staff/adjustments?limit=2").data
    rest = ann.get(f"staff/adjustments?limit=2&cursor={first['next_cursor']}").data
    assert [row["amount"] for row in first["items"] + rest["items"]] == [
        "0.000001",
        "-2.5000",
        "5.0000",
    ]
    assert rest["next_cursor"] is None
    for wrong in ({"amount": "-200"}, {"against": "tenant"}, {"transaction": "txn_x"}):
        body = {"organization": org, "amount": "1", "reason": "a mistake of ours"} | wrong
        assert ann.post("staff/adjustments", body).status_code in (404, 422)


def test_staff_write_a_credit_note_on_an_open_invoice(renter: Renter) -> None:
    present = now()
    row = Invoice.objects.create(
        org_ref=renter.principal.org.pk,
        state=InvoiceState.OPEN,
        currency="USD",
        period_from=present,
        period_to=present,
        total_minor=1000,
        carried_in_micro=0,
        carried_micro=0,
        actor="x",
    )
    body = {"invoice": public("invoice", row.id), "amount": "4.00", "reason": "wrong price"}
    made = staff().post("staff/credit-notes", body)
    assert (made.status_code, made.data["state"], made.data["invoice"]) == (
        202,
        "pending",
        body["invoice"],
    )
    assert staff().post("staff/credit-notes", body | {"amount": "7.00"}).status_code == 422
    assert staff().post("staff/credit-notes", body | {"invoice": "inv_x"}).status_code == 404


def contested(renter: Renter) -> str:
    payment = Payment.objects.get(org_ref=renter.principal.org.pk)
    row = Dispute.objects.create(
        org_ref=payment.org_ref,
        payment=payment,
        stripe_id="du_1",
        state=DisputeState.NEEDS_RESPONSE,
        reason="fraudulent",
        amount_minor=payment.amount_minor,
        due_by=now() + timedelta(days=7),
    )
    return public("dispute", row.id)


def test_staff_answer_a_dispute_with_what_the_ledger_says(renter: Renter) -> None:
    ann, dispute = staff(), contested(renter)
    assert ann.get("staff/disputes").data["items"][0]["id"] == dispute
    shown = ann.get(f"staff/disputes/{dispute}/evidence").data
    assert "100.00 USD" in shown["uncategorized_text"]
    sent = ann.post(f"staff/disputes/{dispute}/evidence", {"uncategorized_text": "They used it."})
    assert sent.status_code == 202
    after = ann.get(f"staff/disputes/{dispute}/evidence").data
    assert after["uncategorized_text"] == "They used it."
    assert after["access_activity_log"] == shown["access_activity_log"]
    assert ann.post(f"staff/disputes/{dispute}/evidence").status_code == 409
    assert StripeCall.objects.filter(kind="dispute_evidence").count() == 1
    assert AuditEntry.objects.filter(action="dispute.evidence", object=dispute).exists()


def test_signs_of_fraud_are_counted_and_a_frozen_organization_can_be_let_go(
    renter: Renter,
) -> None:
    ann = staff()
    contested(renter)
    rows = {row["name"]: row for row in ann.get("staff/fraud-signals").data["items"]}
    assert (rows["Acme"]["disputes"], rows["Acme"]["failed_attempts"]) == (1, 0)
    assert rows["Acme"]["first_settled_at"] is not None
    path = f"staff/organizations/{renter.principal.org.public_id}/unfreeze"
    assert ann.post(path).status_code == 409
    Organization.objects.update(state="frozen", reason="x")
    assert ann.post(path).data["state"] == "active"


def test_a_webhook_that_could_not_be_stored_is_never_answered_2xx(settings) -> None:
    """Stripe repeats what got no 2xx, so a lost event comes again."""
    settings.STRIPE_WEBHOOK_SECRET = "whsec_test"
    payload = b'{"id": "evt_1", "type": "charge.refunded", "data": {"object": {"id": "ch_1"}}}'
    client = Client(raise_request_exception=False)

    def deliver() -> int:
        with patch.object(webhook, "verified", return_value=True):
            answer = client.post("/webhooks/stripe", payload, content_type="application/json")
        return answer.status_code

    for failure in (DatabaseError("disk full"), RuntimeError("a bug")):
        with patch.object(StripeEvent.objects, "bulk_create", side_effect=failure):
            assert deliver() >= 500
    assert (
        client.post("/webhooks/stripe", b"{}", content_type="application/json").status_code == 400
    )
    assert not StripeEvent.objects.exists()
    assert deliver() == 200
    assert StripeEvent.objects.get().applied_at is None
    assert not Transaction.objects.exists()
    assert billing.books().balanced
