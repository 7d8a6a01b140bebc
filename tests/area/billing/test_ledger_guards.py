"""What the database refuses, whoever asks and however."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, InternalError, connection, transaction

from billing import facade
from billing.ledger.accounts import account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import Account, AccountKind, CauseType, TransactionKind
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    corrupt,
    credit,
    limit,
    open_org,
    rent,
    use,
    window,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def org():
    opened = open_org()
    credit(opened, 10 * USD)
    return opened


def entry(*legs) -> Entry:
    return Entry(TransactionKind.TOPUP, CauseType.PAYMENT, new_id(), legs)


def refused(work) -> str:
    with pytest.raises((IntegrityError, InternalError)) as caught, transaction.atomic():
        work()
    return str(caught.value)


def test_unbalanced_transactions(org):
    tenant, cash = lock_purse(org).tenant, account(AccountKind.STRIPE_CASH)
    assert "unbalanced" in refused(lambda: post([entry((tenant, 5), (cash, -4))]))
    both = [entry((tenant, 5), (cash, -4)), entry((tenant, 4), (cash, -5))]
    assert "unbalanced" in refused(lambda: post(both))  # two wrongs in one statement stay wrong
    assert facade.balance(org_ref=org).available_micro == 10 * USD


def test_overdrawn_accounts(org):
    purse = lock_purse(org)
    revenue = account(AccountKind.REVENUE)
    overdraw = entry((purse.tenant, -10 * USD - 1), (revenue, 10 * USD + 1))
    assert "billing_account_floor" in refused(lambda: post([overdraw]))
    from_hold = entry((purse.hold, -1), (revenue, 1))
    assert "billing_account_floor" in refused(lambda: post([from_hold]))
    post([entry((purse.tenant, -10 * USD), (revenue, 10 * USD))])
    assert facade.balance(org_ref=org).available_micro == 0


def test_a_floor_that_would_rise_above_the_balance(org):
    limit(org, 5 * USD)
    purse = lock_purse(org)
    post([entry((purse.tenant, -12 * USD), (account(AccountKind.REVENUE), 12 * USD))])
    lower = Account.objects.filter(id=purse.tenant)
    assert "billing_account_floor" in refused(lambda: lower.update(credit_limit_micro=USD))


def test_a_stored_balance_moves_by_postings_only(org):
    tenant = Account.objects.filter(kind="tenant", owner_ref=org)
    assert "postings only" in refused(lambda: tenant.update(balance_micro=99 * USD))
    rich = {"owner_ref": new_id(), "currency": "USD", "credit_limit_micro": 0}
    assert "starts at zero" in refused(
        lambda: Account.objects.create(kind="tenant", balance_micro=1, receivable_micro=0, **rich)
    )


@pytest.mark.parametrize("table", ["posting", "transaction", "usageline"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_{table} SET id = id",
        "DELETE FROM billing_{table}",
        "TRUNCATE billing_{table} CASCADE",
    ],
)
def test_entries_are_never_changed_or_removed(org, at, table, statement):
    at(DAY + timedelta(hours=2))
    use(window(rent(org), DAY, 60))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # TRUNCATE waits for no deferred check
        assert "append-only" in refused(lambda: cursor.execute(statement.format(table=table)))


def test_no_session_setting_opens_the_guards(org, at):
    at(DAY + timedelta(hours=2))
    use(window(rent(org), DAY, 60))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL pgtrigger.ignore = '{billing_posting_fixed}'")
        assert "append-only" in refused(lambda: cursor.execute("DELETE FROM billing_posting"))


def test_overlapping_windows_of_one_rental(org, at):
    at(DAY + timedelta(hours=2))
    rental = rent(org)
    use(window(rental, DAY, 60))
    with connection.cursor() as cursor:
        copy = """INSERT INTO billing_usageline
                    (id, rental_ref, seq, source_ref, from_at, to_at, seconds, gpus, price_micro_h,
                     amount_micro, provider_micro, fee_micro, overrun_micro, txn_id)
                  SELECT gen_random_uuid(), rental_ref, 2, source_ref, from_at + interval '59 s',
                         to_at + interval '59 s', seconds, gpus, price_micro_h, amount_micro,
                         provider_micro, fee_micro, 0, gen_random_uuid() FROM billing_usageline"""
        assert "no_overlap" in refused(lambda: cursor.execute(copy))


def test_one_cause_one_transaction(org):
    cause = new_id()
    tenant, cash = lock_purse(org).tenant, account(AccountKind.STRIPE_CASH)
    twice = [
        Entry(TransactionKind.TOPUP, CauseType.PAYMENT, cause, ((tenant, 5), (cash, -5)))
        for _ in range(2)
    ]
    assert "billing_transaction_once" in refused(lambda: post(twice))


def test_books_find_what_was_corrupted_on_purpose(org):
    assert facade.books().balanced
    corrupt("billing_posting", "UPDATE billing_posting SET amount_micro = 7 WHERE amount_micro > 0")
    books = facade.books()
    assert not books.balanced
    assert books.unbalanced == 1
    assert books.drifted == 1
