"""Providers at Stripe: sign-up, transfers, payouts to banks and back, with the real SDK."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.payouts import AccountState, LineState
from billing.facade import payouts, reconciliation
from billing.models import (
    Account,
    AccountKind,
    PayoutAccount,
    PayoutLine,
    StripeCall,
    StripeEvent,
)
from billing.payments.webhook import store
from billing.payouts.mature import mature
from billing.stripe_gateway import inbox, survey
from billing.stripe_gateway.follow import follow
from billing.stripe_gateway.reconcile import reconcile
from kernel.clock import hour_of, now
from kernel.ids import new_id
from tests.area.billing.conftest import USD, corrupt, limit, open_org, rent, use, window
from tests.area.billing.earners import balance, due, right
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    RETURN,
    failing,
    hurry,
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)
from tests.contract.test_billing_reconcile import pass_hours, set_clock

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = "4000000000000077"  # Stripe's test card whose money is available at once


def sign_up(stripe, provider: UUID, *, bank: str = "000123456789") -> str:
    """A payout account that receives, its hold over; Stripe's id."""
    open_page(provider)
    send()
    name = PayoutAccount.objects.get(provider_ref=provider).stripe_id
    assert name is not None
    stripe.order("onboard", account=name, bank=bank)
    follow()
    PayoutAccount.objects.update(held_until=now() - timedelta(seconds=1))
    return name


def open_page(provider: UUID) -> None:
    with transaction.atomic():
        payouts.open_account_page(
            provider_ref=provider,
            name="Cards Ltd",
            email="pay@example.com",
            country="US",
            return_url=RETURN,
        )


def earned(settings, provider: UUID, micro: int = 100 * USD) -> None:
    """Shares that are due, of a provider past its first months."""
    settings.GPUYARD_MATURITY_DAYS = 0
    org = open_org()
    limit(org, 10_000 * USD)
    rental = rent(org, provider_ref=provider, price_micro_h=micro * 2, provider_micro_h=micro)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    Account.objects.filter(kind="provider_pending").update(
        created_at=now() - timedelta(days=100)  # past the months with a reserve
    )
    assert mature(provider_ref=provider) is not None


def fund(stripe, dollars: int) -> None:
    org = open_org("Payer")
    card = save_card(stripe, org, AT_ONCE)
    topup(org, dollars * USD, card)
    send()
    receive()


def run() -> PayoutLine:
    with transaction.atomic():
        made = payouts.make_run(actor="staff:usr_1", sole=False)
    return PayoutLine.objects.get(id=made.lines[0].id)


def agreed() -> None:
    """The nightly comparison with Stripe finds nothing, once all of it is old enough."""
    assert named() == []


def named() -> list[tuple[str, str]]:
    """What the nightly comparison finds: check and subject."""
    pass_hours(26)
    try:
        reconcile(full=True)
    finally:
        set_clock("")
    return [(one.name, one.subject) for one in reconciliation.breaks(state="open")]


def test_a_provider_signs_up_on_stripes_page(stripe):
    provider = new_id()
    open_page(provider)
    assert payouts.payout_account(provider_ref=provider).url is None
    send()
    view = payouts.payout_account(provider_ref=provider)
    assert (view.state, view.held_until) == (AccountState.ONBOARDING, None)
    assert view.url is not None
    assert "configuration.recipient.default_outbound_destination" in view.requirements
    (there,) = stripe.objects("v2.core.account")
    assert there["metadata"] == {"gpuyard_provider": str(provider)}
    stripe.order("onboard", account=there["id"])
    follow()
    view = payouts.payout_account(provider_ref=provider)
    assert (view.state, view.requirements) == (AccountState.ACTIVE, ())
    assert view.held_until is not None
    assert view.held_until > now() + timedelta(hours=71)
    open_page(provider)
    send()
    assert len(stripe.objects("v2.core.account")) == 1
    assert not StripeCall.objects.exclude(state="done").exists()


def test_an_account_that_stripe_refused_can_be_asked_for_again(stripe):
    provider = new_id()
    open_page(provider)
    with failing(stripe, "error_before", "/v2/core/accounts", status=400):
        send()
    assert payouts.payout_account(provider_ref=provider).state == AccountState.FAILED
    open_page(provider)
    send()
    assert payouts.payout_account(provider_ref=provider).state == AccountState.ONBOARDING
    assert len(stripe.objects("v2.core.account")) == 1


def test_thin_events_about_an_account_are_followed(stripe):
    provider = new_id()
    name = sign_up(stripe, provider)
    stripe.order("require", account=name, description="identity.individual.id_number")
    thin = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v2.core.account[requirements].updated",
        "related_object": {"id": name, "type": "v2.core.account"},
    }
    store(thin, raw=json.dumps(thin), source="webhook")
    while inbox.drain():
        pass
    assert StripeEvent.objects.get(id="evt_thin").outcome == "applied"
    view = payouts.payout_account(provider_ref=provider)
    assert view.state == AccountState.RESTRICTED
    assert view.requirements == ("identity.individual.id_number",)


def test_a_payout_is_sent_and_is_paid_only_when_the_bank_has_it(stripe, settings):
    provider = new_id()
    name = sign_up(stripe, provider)
    fund(stripe, 500)
    earned(settings, provider)
    line = run()
    send()
    (there,) = stripe.objects("transfer")
    assert (there["amount"], there["destination"]) == (10_000, name)
    assert there["metadata"] == {"gpuyard_payout": str(line.id)}
    receive()
    line.refresh_from_db()
    assert (line.state, line.stripe_id) == (LineState.SENT, there["id"])
    payout = stripe.order("payout", account=name)
    follow()
    line.refresh_from_db()
    assert line.state == LineState.SENT
    stripe.order("decide_payout", account=name, payout=payout["id"], status="paid")
    follow()
    line.refresh_from_db()
    assert line.state == LineState.PAID
    assert -balance(AccountKind.STRIPE_CASH) == stripe.state()["balance"]["available"] * 10_000
    assert payouts.preview().cash_available_micro == -balance(AccountKind.STRIPE_CASH)
    assert stripe.state()["problems"] == []
    right()
    agreed()
    corrupt("billing_payoutline", "UPDATE billing_payoutline SET returned_micro = 10000")
    assert named() == [("payout_booked", f"payout:{line.id}")], "R7: a row that is not booked so"
    corrupt("billing_payoutline", "UPDATE billing_payoutline SET returned_micro = 0")
    corrupt("billing_payoutline", "UPDATE billing_payoutline SET stripe_id = 'tr_other'")
    # The one that Stripe has not, and the one that is not known here, each by what finds it first.
    keys = sorted(subject.partition(":")[2] for _, subject in named())
    assert keys == sorted([there["id"], "tr_other"])


def test_a_payout_that_the_bank_sends_back_is_due_again(stripe, settings):
    provider = new_id()
    name = sign_up(stripe, provider)
    fund(stripe, 500)
    earned(settings, provider)
    line = run()
    send()
    payout = stripe.order("payout", account=name, status="failed", code="account_closed")
    StripeEvent.objects.create(
        id="evt_bank",
        type="payout.failed",
        object_id=payout["id"],
        raw=f'{{"account": "{name}"}}',
        source="webhook",
    )
    while inbox.drain():
        pass
    line.refresh_from_db()
    assert line.state == LineState.FAILED
    assert "account_closed" in line.reason
    send()
    receive()
    line.refresh_from_db()
    assert (line.state, due(provider)) == (LineState.RETURNED, 100 * USD)
    assert len(stripe.objects("transfer_reversal")) == 1
    assert line.stripe_id is not None
    assert survey.movements_of(line.stripe_id) == 0, "what came back is of the same object"
    assert -balance(AccountKind.STRIPE_CASH) == stripe.state()["balance"]["available"] * 10_000
    right()
    agreed()


def test_without_cash_a_transfer_waits_with_an_alarm_and_goes_when_there_is_some(stripe, settings):
    provider = new_id()
    sign_up(stripe, provider)
    earned(settings, provider)
    line = run()
    send()
    line.refresh_from_db()
    assert line.state == LineState.CLEARING
    assert "available balance is too small" in line.reason
    assert StripeCall.objects.get(kind="transfer").state == "pending"
    assert not stripe.objects("transfer")
    fund(stripe, 500)
    hurry()
    send()
    line.refresh_from_db()
    assert (line.state, line.reason) == (LineState.SENT, "")
    assert len(stripe.objects("transfer")) == 1
    right()


def test_cash_that_goes_between_the_look_and_the_transfer_burns_no_key(
    stripe, settings, monkeypatch
):
    provider = new_id()
    sign_up(stripe, provider)
    earned(settings, provider)
    line = run()
    from billing.stripe_gateway import connect

    with monkeypatch.context() as patch:
        patch.setattr(connect, "cash", lambda: connect.Cash(10**9, 0))
        send()
    assert not stripe.objects("transfer")
    fund(stripe, 500)
    hurry()
    send()
    line.refresh_from_db()
    assert line.state == LineState.SENT
    keys = [
        row["idempotency_key"]
        for row in stripe.requests()
        if str(line.id) in (row["idempotency_key"] or "")
    ]
    assert keys == [f"payout:{line.id}:1", f"payout:{line.id}:2"]
    right()


def test_an_account_that_stripe_stopped_gets_its_money_back_as_due(stripe, settings):
    provider = new_id()
    name = sign_up(stripe, provider)
    fund(stripe, 500)
    earned(settings, provider)
    line = run()
    stripe.order("require", account=name, description="identity.individual.id_number")
    send()  # our row does not know yet: Stripe refuses
    line.refresh_from_db()
    assert (line.state, due(provider)) == (LineState.RETURNED, 100 * USD)
    assert "capabilities" in line.reason
    assert facade.earnings(provider_ref=provider).paid_micro == 0
    right()


def test_money_that_waits_is_held_with_its_provider(stripe, settings):
    provider = new_id()
    sign_up(stripe, provider)
    fund(stripe, 500)
    earned(settings, provider)
    line = run()
    with transaction.atomic():
        payouts.hold(provider_ref=provider, actor="staff:usr_1", reason="a dispute")
    send()
    line.refresh_from_db()
    assert (line.state, line.reason) == (LineState.CLEARING, "Held by the platform: a dispute")
    with transaction.atomic():
        payouts.release(provider_ref=provider, actor="staff:usr_1")
    hurry()
    send()
    line.refresh_from_db()
    assert line.state == LineState.SENT
