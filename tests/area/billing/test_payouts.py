"""Payout runs: what stands against a payout, who must agree, and each leg once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.payouts import LineState, RunState
from billing.facade import payouts
from billing.ledger import accounts
from billing.models import AccountKind, Break, PayoutLine, PayoutRun, StripeCall, Transaction
from billing.payouts import account, converge
from billing.payouts.facts import AccountFact, BankFact, TransferFact
from billing.payouts.run import run_due
from kernel.errors import NotFound, Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import DAY, USD, corrupt
from tests.area.billing.earners import (
    WEEK,
    balance,
    due,
    earn,
    earner,
    mature,
    of_payouts,
    receiver,
    right,
    settled_org,
)

pytestmark = pytest.mark.django_db


def make(actor: str = "staff:usr_1", *, sole: bool = False):
    with transaction.atomic():
        return payouts.make_run(actor=actor, sole=sole)


def approve(run, actor: str, *, sole: bool = False):
    with transaction.atomic():
        return payouts.approve_run(run_id=run.id, actor=actor, sole=sole)


def transfer(line, *, name: str = "tr_1", reversed_minor: int = 0, amount: int | None = None):
    minor = amount if amount is not None else line.amount_micro // 10_000
    return TransferFact(name, minor, reversed_minor, "USD", f"py_{name}")


def bank(status: str, *, name: str = "tr_1", failure: str = "") -> BankFact:
    return BankFact(f"po_{status}", status, DAY + timedelta(days=50), failure, (f"py_{name}",))


def lines_of(kind: str) -> int:
    return Transaction.objects.filter(kind=kind).count()


def against(provider) -> str:
    (planned,) = [one for one in payouts.preview().providers if one.provider_ref == provider]
    assert planned.amount_micro == 0
    return " ".join(planned.blocked_by)


def test_a_run_takes_what_is_due_and_orders_one_transfer_each(at):
    provider = earner(at, share=100 * USD + 12_345)
    run = make()
    assert (run.state, run.total_micro) == (RunState.STARTED, 100 * USD + 10_000)
    (line,) = run.lines
    assert line.state == LineState.CLEARING
    assert due(provider) == 2_345
    assert balance(AccountKind.PROVIDER_CLEARING) == line.amount_micro
    (intent,) = StripeCall.objects.filter(kind="transfer")
    assert (intent.key, intent.subject) == (f"payout:{line.id}", str(line.id))
    with pytest.raises(Refusal, match="No provider can be paid"):
        make()
    right()


def test_every_leg_is_booked_once_however_often_stripe_says_so(at):
    provider = earner(at)
    (line,) = make().lines
    for _ in range(2):
        assert converge.transfer_seen(line.id, transfer(line))
    assert balance(AccountKind.STRIPE_CASH) == -10_000 * USD + 100 * USD
    assert lines_of("payout_sent") == 1
    (view,) = payouts.payouts(provider_ref=provider)
    assert (view.state, view.paid_at) == (LineState.SENT, None)  # the bank does not have it yet
    for _ in range(2):
        assert converge.bank_seen(PayoutLine.objects.get().account, bank("paid"))
    converge.transfer_seen(line.id, transfer(line))
    (view,) = payouts.payouts(provider_ref=provider)
    assert view.state == LineState.PAID
    assert view.paid_at is not None
    earned = facade.earnings(provider_ref=provider)
    assert (earned.due_micro, earned.clearing_micro, earned.paid_micro) == (0, 0, 100 * USD)
    right()


def test_a_refused_transfer_is_due_again_and_paid_by_the_next_run(at):
    provider = earner(at)
    (line,) = make().lines
    converge.transfer_refused(line.id, "The account can not receive.")
    converge.transfer_refused(line.id, "The account can not receive.")
    assert due(provider) == 100 * USD
    assert balance(AccountKind.PROVIDER_CLEARING) == 0
    assert PayoutLine.objects.get().state == LineState.RETURNED
    assert len(make().lines) == 1
    right()


def test_a_transfer_found_after_it_was_given_up_is_booked_all_the_same(at):
    """What left our balance is said by the ledger, whatever was believed before."""
    provider = earner(at)
    (line,) = make().lines
    converge.transfer_refused(line.id, "lost")
    converge.transfer_seen(line.id, transfer(line))
    assert due(provider) == 0
    assert PayoutLine.objects.get().state == LineState.SENT
    right()


def test_what_is_reversed_comes_back_part_by_part(at):
    provider = earner(at)
    (line,) = make().lines
    converge.transfer_seen(line.id, transfer(line))
    converge.transfer_seen(line.id, transfer(line, reversed_minor=4_000))
    converge.transfer_seen(line.id, transfer(line, reversed_minor=4_000))
    assert (due(provider), PayoutLine.objects.get().state) == (40 * USD, LineState.SENT)
    right()
    converge.transfer_seen(line.id, transfer(line, reversed_minor=10_000))
    converge.transfer_seen(line.id, transfer(line, reversed_minor=4_000))  # late
    assert (due(provider), PayoutLine.objects.get().state) == (100 * USD, LineState.RETURNED)
    assert facade.earnings(provider_ref=provider).paid_micro == 0
    right()


def test_a_bank_that_refuses_makes_us_take_the_transfer_back(at):
    provider = earner(at)
    (line,) = make().lines
    converge.transfer_seen(line.id, transfer(line))
    name = PayoutLine.objects.get().account
    assert converge.bank_seen(name, bank("paid"))
    assert converge.bank_seen(name, bank("failed", failure="account closed"))
    assert converge.bank_seen(name, bank("failed", failure="account closed"))
    row = PayoutLine.objects.get()
    assert (row.state, row.reason, row.paid_at) == (LineState.FAILED, "account closed", None)
    assert StripeCall.objects.get(kind="transfer_reversal").key == f"payout:{line.id}:reverse"
    right()
    converge.transfer_seen(line.id, transfer(line, reversed_minor=10_000))
    assert (due(provider), PayoutLine.objects.get().state) == (100 * USD, LineState.RETURNED)
    right()


def test_somebody_elses_payment_or_a_wrong_amount_pays_no_line(at):
    earner(at)
    (line,) = make().lines
    assert not converge.transfer_seen(new_id(), transfer(line))
    assert converge.transfer_seen(line.id, transfer(line, amount=1))
    row = PayoutLine.objects.get()
    assert row.state == LineState.CLEARING
    assert "1 cents" in row.reason
    converge.transfer_seen(line.id, transfer(line))
    assert not converge.bank_seen("acct_other", bank("paid"))
    converge.transfer_seen(line.id, transfer(line, name="tr_2"))
    assert "second transfer" in PayoutLine.objects.get().reason
    assert lines_of("payout_sent") == 1


def test_no_account_a_fresh_one_or_a_changed_one_pays_nothing(at):
    provider, org = new_id(), settled_org(at)
    earn(at, org, provider, share=100 * USD)
    at(DAY + WEEK + timedelta(hours=1))
    mature(provider)
    assert "no payout account" in against(provider)
    receiver(at, provider, opened=DAY + WEEK + timedelta(hours=2))
    assert "payouts wait until" in against(provider)
    at(DAY + WEEK + timedelta(hours=75))
    assert payouts.preview().total_micro == 90 * USD
    with transaction.atomic():
        view = payouts.open_account_page(
            provider_ref=provider,
            name="Other Ltd",
            email="other@example.com",
            country="FR",
            return_url="https://example.com/",
        )
    assert view.held_until is not None
    assert view.email == "pay@example.com"
    assert "payouts wait until" in against(provider)
    at(DAY + WEEK + timedelta(hours=150))
    account.seen(f"acct_{provider.hex}", AccountFact(f"acct_{provider.hex}", False, ("iban",)))
    assert "not ready at Stripe: restricted" in against(provider)
    assert payouts.payout_account(provider_ref=provider).requirements == ("iban",)
    with pytest.raises(NotFound):
        payouts.payout_account(provider_ref=new_id())


def test_a_tenth_of_a_new_providers_shares_stays_in_reserve(at):
    provider, org = new_id(), settled_org(at)
    receiver(at, provider)
    earn(at, org, provider, share=100 * USD)
    at(DAY + WEEK + timedelta(hours=1))
    mature(provider)
    earned = facade.earnings(provider_ref=provider)
    assert (earned.due_micro, earned.reserve_micro) == (100 * USD, 10 * USD)
    assert earned.next_micro == 90 * USD
    assert make().total_micro == 90 * USD
    assert due(provider) == 10 * USD
    at(DAY + WEEK + timedelta(days=31))
    assert facade.earnings(provider_ref=provider).reserve_micro == 0
    assert facade.earnings(provider_ref=provider).next_micro == 0  # under the smallest payout
    right()


def test_staff_hold_one_provider_with_a_reason_and_release_it(at):
    provider = earner(at)
    with transaction.atomic():
        assert payouts.hold(provider_ref=provider, actor="staff:usr_1", reason="a dispute")
        assert not payouts.hold(provider_ref=provider, actor="staff:usr_1", reason="again")
    assert against(provider) == "Held by the platform: a dispute"
    with pytest.raises(Refusal):
        make()
    assert payouts.release(provider_ref=provider, actor="staff:usr_2")
    assert not payouts.release(provider_ref=provider, actor="staff:usr_2")
    assert len(make().lines) == 1


def test_a_difference_that_nobody_explained_for_three_days_pays_nobody(at):
    earner(at)
    now_at = DAY + timedelta(days=40)
    found = Break.objects.create(
        rule="R5",
        name="cash_total",
        subject="cash",
        expected="1",
        found="2",
        text="Cash differs",
        first_seen_at=now_at - timedelta(hours=71),
    )
    assert payouts.preview().total_micro == 100 * USD
    at(now_at + timedelta(hours=1))
    preview = payouts.preview()
    assert (preview.total_micro, len(preview.blocked_by)) == (0, 1)
    with pytest.raises(Refusal, match="open for more than 72 hours"):
        make()
    assert run_due() == 0
    Break.objects.filter(id=found.id).update(resolved_at=now_at)
    assert make().state == RunState.STARTED


def test_above_the_limit_a_second_person_agrees(at, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    provider = earner(at)
    run = make()
    assert (run.state, run.approvals, run.starts_at) == (RunState.WAITING, ("staff:usr_1",), None)
    assert due(provider) == 100 * USD
    assert not StripeCall.objects.filter(kind="transfer").exists()
    with pytest.raises(Refusal, match="You agreed already"):
        approve(run, "staff:usr_1")
    with pytest.raises(Refusal, match="Another run waits"):
        make("staff:usr_2")
    at(DAY + timedelta(days=45))
    assert run_due() == 0
    assert approve(run, "staff:usr_2").state == RunState.STARTED
    assert due(provider) == 0
    with pytest.raises(Refusal, match="waits for nobody"):
        approve(run, "staff:usr_3")
    right()


def test_one_member_of_staff_alone_waits_a_day(at, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    provider = earner(at)
    begun = DAY + timedelta(days=41)
    at(begun)
    run = make(sole=True)
    assert (run.state, run.starts_at) == (RunState.WAITING, begun + timedelta(hours=24))
    at(begun + timedelta(hours=23))
    assert run_due() == 0
    at(begun + timedelta(hours=24))
    assert run_due() == 1
    assert payouts.run(run_id=run.id).state == RunState.STARTED
    assert due(provider) == 0


def test_a_large_scheduled_run_takes_two_people(at, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    earner(at)
    run_due()
    (run,) = payouts.runs()
    assert (run.state, run.approvals) == (RunState.WAITING, ())
    assert approve(run, "staff:usr_1").state == RunState.WAITING
    assert approve(run, "staff:usr_2").state == RunState.STARTED


def test_what_was_taken_back_before_approval_is_not_paid(at, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    provider = earner(at)
    run = make()
    with transaction.atomic():
        payouts.hold(provider_ref=provider, actor="staff:usr_2", reason="wait")
    done = approve(run, "staff:usr_2")
    assert [line.state for line in done.lines] == [LineState.CANCELED]
    assert done.lines[0].reason == "Held by the platform: wait"
    assert due(provider) == 100 * USD
    assert payouts.payouts(provider_ref=provider) == []
    right()


def test_a_run_that_waits_can_be_given_up(at, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    earner(at)
    run = make()
    with transaction.atomic():
        assert payouts.cancel_run(run_id=run.id).state == RunState.CANCELED
    with pytest.raises(Refusal), transaction.atomic():
        payouts.cancel_run(run_id=run.id)
    assert make().state == RunState.WAITING


def test_the_week_has_one_scheduled_run(at):
    provider = earner(at)
    run_due()
    run_due()
    (run,) = payouts.runs()
    assert (run.actor, run.state) == ("platform", RunState.STARTED)
    assert run.week is not None
    assert run.week.weekday() == 0
    assert PayoutRun.objects.count() == 1
    assert due(provider) == 0


def test_the_preview_puts_cash_against_all_that_is_owed(at):
    provider = earner(at)
    view = payouts.preview()
    assert view.cash_available_micro is None  # never read
    tenants = 10_000 * USD - 200 * USD
    assert (view.owed_tenants_micro, view.owed_providers_micro) == (tenants, 100 * USD)
    assert view.owed_micro == tenants + 100 * USD
    assert (view.total_micro, view.approvals_needed, view.blocked_by) == (100 * USD, 0, ())
    assert [one.provider_ref for one in view.providers] == [provider]


def test_a_payout_whose_state_and_postings_disagree_is_reported(at):
    earner(at)
    (line,) = make().lines
    corrupt(
        "billing_payoutline",
        f"UPDATE billing_payoutline SET state = 'returned' WHERE id = '{line.id}'",
    )
    assert of_payouts() == [("payout_booked", f"payout:{line.id}", 100 * USD)]


def test_a_payout_out_of_anothers_account_is_reported(at):
    provider, other = earner(at), new_id()
    (line,) = make().lines
    with transaction.atomic():
        theirs = accounts.account(AccountKind.PROVIDER_DUE, other)
    corrupt(
        "billing_posting",
        f"UPDATE billing_posting p SET account_id = '{theirs}' FROM billing_account a"
        f" WHERE a.id = p.account_id AND a.owner_ref = '{provider}'"
        " AND a.kind = 'provider_due' AND p.amount_micro < 0",
    )
    assert of_payouts() == [("payout_booked", f"payout:{line.id}", -100 * USD)]
