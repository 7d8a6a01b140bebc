"""Disputes: each step booked once whatever the order of events, the loss down to the floor."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.disputes import DisputeState, DisputeView
from billing.facade import disputes as door
from billing.facade import refunds
from billing.models import AccountKind, Dispute, Payment, Posting, StripeCall, Transaction
from billing.payments.dispute import dispute_seen
from billing.payments.evidence import evidence_refused, evidence_submitted
from billing.payments.return_facts import DisputeFact
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    end,
    open_org,
    rent,
    start,
    stop,
    use,
    window,
)

pytestmark = pytest.mark.django_db


def total(kind: AccountKind) -> int:
    return sum(Posting.objects.filter(account__kind=kind).values_list("amount_micro", flat=True))


def available(org: UUID) -> int:
    return facade.balance(org_ref=org).available_micro


def opened(payment: Payment, **changes) -> DisputeFact:
    """A chargeback of the whole payment with Stripe's fee of 15 USD."""
    values: dict[str, Any] = {
        "stripe_id": "du_1",
        "payment": payment.stripe_id,
        "state": DisputeState.NEEDS_RESPONSE,
        "reason": "fraudulent",
        "amount_minor": payment.amount_minor,
        "currency": "USD",
        "withdrawn_minor": payment.amount_minor,
        "reinstated_minor": 0,
        "fee_minor": 1500,
        "fee_back_minor": 0,
        "due_by": now() + timedelta(days=7),
        "submitted": False,
    }
    return DisputeFact(**(values | changes))


def paid(amount: int = 50 * USD) -> tuple[UUID, Payment]:
    org = open_org()
    credit(org, amount)
    return org, Payment.objects.get(org_ref=org)


def kinds() -> list[str]:
    rows = Transaction.objects.filter(cause_type="dispute").order_by("kind", "round")
    return list(rows.values_list("kind", flat=True))


def submit(view: DisputeView, by: str = "staff:usr_ann", **texts: str) -> DisputeView:
    composed = door.evidence(dispute_id=view.id)
    given = {
        "access_activity_log": composed.access_activity_log,
        "uncategorized_text": composed.uncategorized_text,
    }
    with transaction.atomic():
        return door.submit_evidence(dispute_id=view.id, submitted_by=by, **(given | texts))


def test_an_open_dispute_is_in_suspense_and_nothing_is_taken_from_the_tenant():
    org, payment = paid()
    cash = total(AccountKind.STRIPE_CASH)
    for _ in range(3):
        assert dispute_seen(opened(payment))
    assert kinds() == ["dispute", "dispute_fee"]
    assert total(AccountKind.STRIPE_CASH) == cash + 65 * USD
    assert total(AccountKind.DISPUTE_SUSPENSE) == -50 * USD
    assert total(AccountKind.STRIPE_FEES) == -15 * USD
    assert available(org) == 50 * USD
    assert door.open_orgs() == {org}
    assert facade.books().balanced


def test_an_inquiry_moves_no_money_and_freezes_all_the_same():
    org, payment = paid()
    fact = opened(
        payment, state=DisputeState.WARNING_NEEDS_RESPONSE, withdrawn_minor=0, fee_minor=0
    )
    assert dispute_seen(fact)
    assert (kinds(), door.open_orgs()) == ([], {org})
    assert dispute_seen(replace(fact, state=DisputeState.WARNING_CLOSED))
    assert (kinds(), door.open_orgs()) == ([], set())


def test_a_dispute_that_was_won_leaves_the_books_as_they_were():
    org, payment = paid()
    before = {kind: total(kind) for kind in AccountKind}
    won = opened(payment, state=DisputeState.WON, reinstated_minor=5000, fee_back_minor=1500)
    for fact in (opened(payment), won, won):
        assert dispute_seen(fact)
    assert {kind: total(kind) for kind in AccountKind} == before
    assert kinds() == ["dispute", "dispute_fee", "dispute_fee", "dispute_won"]
    assert (door.open_orgs(), available(org)) == (set(), 50 * USD)


def test_a_lost_dispute_takes_what_the_tenant_has_and_the_rest_is_bad_debt():
    org, payment = paid()
    for _ in range(5):
        rent(org)  # holds 4 each: 30 are left
    before = now()
    dispute_seen(opened(payment))
    for _ in range(2):
        assert dispute_seen(opened(payment, state=DisputeState.LOST))
    assert (available(org), total(AccountKind.BAD_DEBT)) == (0, -20 * USD)
    assert total(AccountKind.DISPUTE_SUSPENSE) == 0
    assert facade.balance(org_ref=org).held_micro == 20 * USD
    assert door.lost_since(org_ref=org, at=before)
    assert not door.lost_since(org_ref=org, at=now() + timedelta(seconds=1))
    assert facade.books().balanced


def test_the_provider_keeps_what_it_earned_for_compute_that_was_delivered(at):
    org, payment = paid()
    rental = rent(org)
    start(rental, DAY)
    at(DAY + timedelta(hours=2))
    use(window(rental, DAY, 3600))
    earned = total(AccountKind.PROVIDER_PENDING)
    assert earned > 0
    assert dispute_seen(opened(payment, state=DisputeState.LOST))
    assert total(AccountKind.PROVIDER_PENDING) == earned


def test_a_lost_dispute_that_is_turned_gives_everything_back_once():
    org, payment = paid()
    lost = opened(payment, state=DisputeState.LOST)
    won = opened(payment, state=DisputeState.WON, reinstated_minor=5000)
    for fact in (lost, lost, won, won):
        assert dispute_seen(fact)
    assert available(org) == 50 * USD
    assert (total(AccountKind.BAD_DEBT), total(AccountKind.DISPUTE_SUSPENSE)) == (0, 0)
    assert facade.books().balanced


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)], ids=str)
def test_any_order_of_events_gives_the_same_books(order):
    """What is fetched is always the present; an older answer that comes late undoes nothing."""
    org, payment = paid()
    steps = [
        opened(payment),
        opened(payment, state=DisputeState.UNDER_REVIEW, submitted=True),
        opened(payment, state=DisputeState.WON, reinstated_minor=5000),
    ]
    told = [steps[number] for number in order] * 2
    random.Random(str(order)).shuffle(told)
    for fact in told:
        assert dispute_seen(fact)
    assert Dispute.objects.get().state == "won"
    assert kinds() == ["dispute", "dispute_fee", "dispute_won"]
    assert available(org) == 50 * USD


def test_a_dispute_of_an_unknown_payment_is_not_ours():
    _, payment = paid()
    assert not dispute_seen(replace(opened(payment), payment="pi_unknown"))
    assert not Dispute.objects.exists()


def test_while_a_dispute_is_open_no_card_is_charged_and_its_amount_is_not_refunded():
    org, payment = paid()
    credit(org, 30 * USD)
    dispute_seen(opened(payment))
    with pytest.raises(Refusal, match="contested") as refusal:
        facade.start_topup(org_ref=org, amount_micro=5 * USD, return_url="https://example.com/")
    assert refusal.value.slug == "account_frozen"
    with pytest.raises(InvalidRequest) as most, transaction.atomic():
        refunds.order_refund(
            org_ref=org, amount_micro=31 * USD, reason="all of it", ordered_by="x", by_renter=False
        )
    assert "30.00 USD" in str(most.value.extra)


def test_evidence_is_composed_from_the_ledger_and_submitted_once(at):
    org, payment = paid()
    at(payment.created_at)
    rental = rent(org)
    begin = payment.created_at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    start(rental, begin)
    at(begin + timedelta(hours=2))
    use(window(rental, begin, 1800))
    stop(rental)
    end(rental)
    dispute_seen(opened(payment))
    (view,) = door.disputes(org_ref=org)
    composed = door.evidence(dispute_id=view.id)
    assert composed.customer_email_address == "billing@example.com"
    assert "2 x NVIDIA H100 80GB SXM, fra-1: 1800 s of proven use" in composed.uncategorized_text
    assert "50.00 USD" in composed.uncategorized_text
    assert f"rental {rental}" in composed.access_activity_log
    with pytest.raises(InvalidRequest):
        submit(view, uncategorized_text=" ")
    submit(view, uncategorized_text="They used it.")
    intent = StripeCall.objects.get(kind="dispute_evidence")
    assert intent.key == f"evidence:{view.id}:1"
    assert door.evidence(dispute_id=view.id).uncategorized_text == "They used it."
    with pytest.raises(Refusal, match="submitted already"):
        submit(view)
    evidence_refused(view.id, "too long")
    assert door.disputes(org_ref=org)[0].failure == "too long"
    submit(view)
    evidence_submitted(view.id)
    (after,) = door.disputes(org_ref=org)
    assert after.submitted_at is not None
    assert StripeCall.objects.filter(kind="dispute_evidence").count() == 2
    with pytest.raises(NotFound):
        door.evidence(dispute_id=new_id())


def test_a_chargeback_after_an_answered_inquiry_asks_for_evidence_anew():
    org, payment = paid()
    inquiry = opened(
        payment, state=DisputeState.WARNING_NEEDS_RESPONSE, withdrawn_minor=0, fee_minor=0
    )
    dispute_seen(inquiry)
    (view,) = door.disputes(org_ref=org)
    submit(view)
    evidence_submitted(view.id)
    dispute_seen(replace(inquiry, state=DisputeState.WARNING_UNDER_REVIEW, submitted=True))
    dispute_seen(opened(payment))
    (view,) = door.disputes(org_ref=org)
    assert (view.submitted_at, view.state) == (None, "needs_response")
    submit(view)
    keys = StripeCall.objects.filter(kind="dispute_evidence").values_list("key", flat=True)
    assert sorted(keys) == [f"evidence:{view.id}:1", f"evidence:{view.id}:2"]


def test_an_unanswered_dispute_alarms_three_days_before_its_end():
    def waiting() -> float:
        return next(v.value for v in facade.vitals() if v.name == "disputes_unanswered")

    _, payment = paid()
    dispute_seen(opened(payment, due_by=now() + timedelta(days=4)))
    assert waiting() == 0
    soon = opened(payment, due_by=now() + timedelta(days=2))
    dispute_seen(soon)
    assert waiting() == 1
    dispute_seen(replace(soon, submitted=True))
    assert waiting() == 0
