"""Refunds in the portal, and the staff pages: orders, the second person, disputes."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import transaction

from billing import facade as billing
from billing.contracts import InvoiceState
from billing.contracts.disputes import DisputeState
from billing.models import Account, Adjustment, Dispute, Invoice, Payment, Refund, RefundOrder
from kernel.clock import now
from kernel.ids import public
from marketplace.accounts.access import principal_of
from marketplace.models import AuditEntry, Organization, User
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, read
from tests.authenticator import make_staff
from tests.market import USD


def member(name: str) -> Visitor:
    email = f"{name}@example.com"
    make_staff(email=email, password=PASSWORD)
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
    shown = ann.get("/staff/returns").text
    assert path not in shown
    assert all(one in shown for one in (renter.person.principal.org.name, "ann@example.com"))
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


def test_an_order_that_waits_is_declined_or_withdrawn(settings, renter: Visitor) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    ann, ben = member("ann"), member("ben")
    order = {
        "organization": renter.person.principal.org.public_id,
        "amount": "5.00",
        "against": "revenue",
        "reason": "a slip",
    }
    for decider, verb in ((ann, "Withdraw"), (ben, "Decline")):
        page = ann.get("/staff/returns")
        assert ann.send(page, "/staff/returns/adjustment", **order).status_code == 303
        row = Adjustment.objects.latest("id")
        path = f"/staff/returns/adjustment/{public('adjustment', row.id)}/decline"
        page = decider.get("/staff/returns")
        assert verb in page.text
        bare = decider.post(path, {"idempotency_key": f"bare {verb}", "reason": "\n"})
        assert bare.status_code == 422
        assert decider.send(page, path, reason="<b>not so</b>").status_code == 303
        shown = ann.get("/staff/returns").text
        assert "&lt;b&gt;not so" in shown
        assert path not in shown
    actions = AuditEntry.objects.filter(action__startswith="adjustment.").order_by("id")
    assert list(actions.values_list("action", flat=True)) == [
        "adjustment.order",
        "adjustment.withdraw",
        "adjustment.order",
        "adjustment.decline",
    ]
    assert renter.person.call("GET", "/billing/balance")[1]["available"] == "1000.0000"


def test_alone_it_is_carried_out_a_day_later_and_never_once_there_are_two(
    settings, renter: Visitor
) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    ann, org = member("ann"), renter.person.principal.org.public_id
    order = {"organization": org, "amount": "5.00", "against": "revenue", "reason": "a slip"}
    for _ in range(2):
        ann.send(ann.get("/staff/returns"), "/staff/returns/adjustment", **order)
    first, second = Adjustment.objects.order_by("id")
    path = "/staff/returns/adjustment/{}/approve"
    early = ann.get("/staff/returns").text
    assert "by you from" in early
    assert "Carry out alone" not in early
    refused = ann.post(path.format(public("adjustment", first.id)), {"idempotency_key": "early"})
    assert (refused.status_code, "you can carry it out from" in refused.text) == (409, True)
    Adjustment.objects.update(created_at=now() - timedelta(days=1))
    page = ann.get("/staff/returns")
    assert "Carry out alone" in page.text
    assert ann.send(page, path.format(public("adjustment", first.id))).status_code == 303
    assert AuditEntry.objects.get(action="adjustment.approve").details["alone"] is True
    assert "alone, a day later" in ann.get("/staff/returns").text
    member("ben")
    late = ann.send(page, path.format(public("adjustment", second.id)))
    assert (late.status_code, "another member" in late.text) == (409, True)
    first.refresh_from_db()
    assert (first.txn is not None, Adjustment.objects.filter(txn=None).count()) == (True, 1)


def test_bad_debt_says_of_whom_when_by_whom_why_and_what_came_back(renter: Visitor) -> None:
    ann, org = member("ann"), renter.person.principal.org
    assert "Nothing was ever written off." in ann.get("/staff/write-offs").text
    with transaction.atomic():
        billing.set_credit_limit(org_ref=org.id, limit_micro=100 * USD)
    Account.objects.filter(kind="tenant", owner_ref=org.id).update(receivable_micro=10 * USD)
    present = now()
    row = Invoice.objects.create(
        org_ref=org.id,
        state=InvoiceState.OPEN,
        number="GY-7",
        currency="USD",
        period_from=present,
        period_to=present,
        total_minor=1000,
        carried_in_micro=0,
        carried_micro=0,
        actor="x",
        finalized_at=present - timedelta(days=20),
        stripe_id="in_7",
    )
    path = f"/staff/write-offs/{public('invoice', row.id)}"
    page = ann.get("/staff/write-offs")
    assert "GY-7" in page.text
    assert ann.post(path, {"idempotency_key": "n", "reason": " "}).status_code == 422
    assert ann.send(page, path, reason="<i>gone</i>").status_code == 303
    shown = ann.get("/staff/write-offs").text
    assert "&lt;i&gt;gone" in shown
    assert org.name in shown
    assert people_actor("ann") in shown
    assert path not in shown
    again = ann.post(path, {"idempotency_key": "again", "reason": "again"})
    assert (again.status_code, "only an open one" in again.text) == (409, True)
    assert AuditEntry.objects.filter(action="invoice.write_off").count() == 1


def people_actor(name: str) -> str:
    return principal_of(User.objects.get(email=f"{name}@example.com")).staff_actor


def contest(
    payment: Payment, state: DisputeState = DisputeState.NEEDS_RESPONSE, **values: datetime
) -> Dispute:
    return Dispute.objects.create(
        org_ref=payment.org_ref,
        payment=payment,
        stripe_id="du_1",
        state=state,
        reason="fraudulent",
        amount_minor=payment.amount_minor,
        due_by=now() + timedelta(days=7),
        **values,
    )


@pytest.mark.usefixtures("renter")
def test_staff_read_and_submit_the_evidence_of_a_dispute() -> None:
    payment = Payment.objects.latest("id")
    row, ann = contest(payment), member("ann")
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
    name = Organization.objects.get(id=payment.org_ref).name
    assert name in ann.get("/staff/disputes").text.partition('id="signals"')[0]


@pytest.mark.usefixtures("renter")
def test_a_decided_dispute_asks_for_nothing_any_more() -> None:
    payment, ann = Payment.objects.latest("id"), member("ann")
    dispute = contest(payment, DisputeState.LOST, closed_at=now())
    page = ann.get(f"/staff/disputes/{public('dispute', dispute.id)}").text
    assert "None was submitted." in page
    assert "Submit to Stripe" not in page
    assert "none submitted" in ann.get("/staff/disputes").text


def test_a_frozen_organization_reads_on_every_page_why_and_what_now(renter: Visitor) -> None:
    org, payment = renter.person.principal.org, Payment.objects.latest("id")
    assert "frozen-notice" not in renter.get("/rentals").text
    frozen = {"state": "frozen", "reason": "a stolen card", "frozen_at": now()}
    Organization.objects.filter(id=org.id).update(**frozen, frozen_for="")
    shown = renter.get("/rentals").text
    assert "This organization is frozen" in shown
    assert "a stolen card" in shown
    Organization.objects.filter(id=org.id).update(frozen_for="dispute")
    row = contest(payment)
    for path in ("/rentals", "/billing"):
        assert "A payment of $1,000.00 is contested at its bank" in renter.get(path).text
    Dispute.objects.filter(id=row.id).update(state=DisputeState.LOST, closed_at=now())
    assert "The bank took a payment of $1,000.00 back" in renter.get("/rentals").text
    Organization.objects.filter(id=org.id).update(state="active", reason="", frozen_for="")
    assert "frozen-notice" not in renter.get("/rentals").text
