"""Shares become due once: by age, in any order of commits, less what was taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.utils import IntegrityError, InternalError

from billing import facade
from billing.contracts.meters import MeterKind
from billing.facade import payouts
from billing.models import Account, ClearedRenter, Maturity, Payment, Transaction
from billing.payouts.mature import mature_all
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    corrupt,
    credit,
    limit,
    open_org,
    rent,
    start,
    use,
    window,
)
from tests.area.billing.earners import (
    WEEK,
    due,
    earn,
    mature,
    of_payouts,
    pending,
    right,
    settled_org,
)

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def give_back(rental, begin, *, hours: int = 1) -> int:
    with transaction.atomic():
        return facade.credit(
            rental_ref=rental, from_at=begin, to_at=begin + hours * HOUR, by_provider=True
        )


def test_a_share_is_due_seven_days_after_its_use_and_not_a_second_before(at):
    provider = new_id()
    earn(at, settled_org(at), provider, share=8 * USD)
    at(DAY + HOUR + WEEK - timedelta(seconds=1))
    assert mature(provider) == 0
    at(DAY + HOUR + WEEK)
    assert mature(provider) == 8 * USD
    assert (pending(provider), due(provider)) == (0, 8 * USD)
    assert mature(provider) == 0
    assert [row.kind for row in Transaction.objects.filter(cause_type="maturity")] == ["maturity"]
    right()


def test_only_what_is_old_enough_moves_and_the_rest_stays(at):
    provider, org = new_id(), settled_org(at)
    for day in range(4):
        earn(at, org, provider, share=(day + 1) * USD, begin=DAY + day * timedelta(days=1))
    at(DAY + WEEK + timedelta(days=1, hours=2))
    assert mature_all() == 1
    assert (pending(provider), due(provider)) == (7 * USD, 3 * USD)
    row = Maturity.objects.get()
    assert (row.balance_micro, row.blocked_micro, row.amount_micro) == (
        10 * USD,
        7 * USD,
        3 * USD,
    )


def test_a_line_that_comes_late_matures_when_it_is_there_and_once(at):
    provider, org = new_id(), settled_org(at)
    rental = earn(at, org, provider, share=4 * USD, begin=DAY + HOUR)
    at(DAY + WEEK + 3 * HOUR)
    assert mature(provider) == 4 * USD
    assert use(window(rental, DAY, 1800)) == 1  # proven a week late: older than all that matured
    assert mature(provider) == 2 * USD
    assert mature(provider) == 0
    assert due(provider) == 6 * USD
    right()


def test_a_credit_before_the_share_matured_takes_it_out_of_what_matures(at):
    provider, org = new_id(), settled_org(at)
    rental = earn(at, org, provider, share=4 * USD)
    earn(at, org, provider, share=10 * USD, begin=DAY + HOUR)
    assert give_back(rental, DAY) == 8 * USD
    at(DAY + WEEK + HOUR)
    assert mature(provider) == 0  # share and credit are of the same age and cancel out
    at(DAY + WEEK + 2 * HOUR)
    assert mature(provider) == 10 * USD
    assert pending(provider) == 0
    right()


def test_a_credit_of_what_was_due_is_taken_back_from_due(at):
    provider, org = new_id(), settled_org(at)
    rental = earn(at, org, provider, share=4 * USD)
    earn(at, org, provider, share=10 * USD, begin=DAY + timedelta(days=3))
    at(DAY + WEEK + HOUR)
    assert mature(provider) == 4 * USD
    assert give_back(rental, DAY) == 8 * USD
    assert pending(provider) == 6 * USD
    assert mature(provider) == -4 * USD  # not out of the younger share
    assert (pending(provider), due(provider)) == (10 * USD, 0)
    assert Transaction.objects.filter(kind="clawback").count() == 1
    right()


def test_a_debt_is_carried_over_to_what_matures_next(at):
    provider, org = new_id(), settled_org(at)
    rental = earn(at, org, provider, share=4 * USD)
    at(DAY + WEEK + HOUR)
    mature(provider)
    owed = Account.objects.get(kind="provider_due", owner_ref=provider)
    from billing.ledger.accounts import account
    from billing.ledger.post import Entry, post
    from billing.models import AccountKind, CauseType, TransactionKind

    cash = account(AccountKind.STRIPE_CASH)
    with transaction.atomic():  # all of it was paid out meanwhile
        post(
            [
                Entry(
                    TransactionKind.PAYOUT,
                    CauseType.PAYOUT,
                    new_id(),
                    ((owed.id, -4 * USD), (cash, 4 * USD)),
                )
            ]
        )
    give_back(rental, DAY)
    assert mature(provider) == -4 * USD
    assert due(provider) == -4 * USD
    earn(at, org, provider, share=6 * USD, begin=DAY + WEEK + HOUR)
    at(DAY + 2 * WEEK + 2 * HOUR)
    assert mature(provider) == 6 * USD
    assert due(provider) == 2 * USD


def test_use_of_a_renter_without_a_settled_payment_waits_for_staff(at):
    provider = new_id()
    at(DAY)
    fresh = open_org()
    credit(fresh, 100 * USD)
    Payment.objects.update(created_at=DAY)
    earn(at, fresh, provider, share=4 * USD)
    earn(at, settled_org(at), provider, share=2 * USD)
    at(DAY + 2 * WEEK)
    assert mature(provider) == 2 * USD
    (review,) = payouts.reviews()
    assert (review.org_ref, review.share_micro, review.paid_micro) == (fresh, 4 * USD, 100 * USD)
    assert facade.earnings(provider_ref=provider).on_review_micro == 4 * USD
    assert payouts.release_review(org_ref=fresh, actor="staff:usr_1", note="knows them")
    assert not payouts.release_review(org_ref=fresh, actor="staff:usr_2", note="again")
    assert mature(provider) == 4 * USD
    assert payouts.reviews() == []
    right()


def test_a_payment_that_settled_or_a_credit_limit_needs_no_staff(at):
    provider = new_id()
    at(DAY)
    prepaid, postpaid = open_org(), open_org()
    credit(prepaid, 100 * USD)
    Payment.objects.update(created_at=DAY)
    limit(postpaid, 100 * USD)
    earn(at, prepaid, provider, share=4 * USD)
    earn(at, postpaid, provider, share=2 * USD)
    at(DAY + 2 * WEEK)
    assert mature(provider) == 2 * USD
    at(DAY + timedelta(days=30))
    assert mature(provider) == 4 * USD
    assert set(ClearedRenter.objects.values_list("actor", flat=True)) == {"platform"}


def test_a_credit_on_review_takes_nothing_from_other_renters_shares(at):
    provider = new_id()
    at(DAY)
    fresh = open_org()
    credit(fresh, 100 * USD)
    Payment.objects.update(created_at=DAY)
    rental = earn(at, fresh, provider, share=4 * USD)
    earn(at, settled_org(at), provider, share=2 * USD)
    at(DAY + WEEK + 2 * HOUR)
    give_back(rental, DAY)
    assert mature(provider) == 2 * USD
    assert pending(provider) == 0


def test_a_disks_share_matures_like_a_cards(at):
    provider, org = new_id(), settled_org(at)
    at(DAY + HOUR)
    disk = rent(
        org,
        provider_ref=provider,
        kind=MeterKind.DISK,
        price_micro_h=2 * USD,
        provider_micro_h=1 * USD,
    )
    start(disk, DAY)
    assert use(window(disk, DAY, 3600)) == 1
    earn(at, org, provider, share=4 * USD)
    assert mature(provider) == 0
    at(DAY + WEEK + HOUR)
    assert mature(provider) == 5 * USD
    assert pending(provider) == 0
    right()


def test_a_longer_time_to_mature_takes_nothing_back(at, settings):
    provider, org = new_id(), settled_org(at)
    earn(at, org, provider, share=4 * USD)
    at(DAY + WEEK + HOUR)
    assert mature(provider) == 4 * USD
    settings.GPUYARD_MATURITY_DAYS = 30
    assert mature(provider) == 0
    assert due(provider) == 4 * USD


def test_what_matured_can_not_be_rewritten_nor_disagree_with_itself(at):
    provider = new_id()
    earn(at, settled_org(at), provider, share=4 * USD)
    at(DAY + WEEK + HOUR)
    mature(provider)
    row = Maturity.objects.get()
    with pytest.raises((InternalError, IntegrityError)), transaction.atomic():
        Maturity.objects.update(amount_micro=1)
    row.pk, row.amount_micro = new_id(), 5
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


def test_a_share_that_is_not_where_it_should_be_is_reported_for_its_provider_alone(at):
    org, honest, robbed = settled_org(at), new_id(), new_id()
    earn(at, org, honest, share=4 * USD)
    earn(at, org, robbed, share=6 * USD)
    assert of_payouts() == []
    corrupt(
        "billing_posting",
        "UPDATE billing_posting p SET amount_micro = amount_micro - 1 FROM billing_account a"
        f" WHERE a.id = p.account_id AND a.kind = 'provider_pending' AND owner_ref = '{robbed}'",
    )
    assert of_payouts() == [("provider_shares", f"provider:{robbed}", -1)]
