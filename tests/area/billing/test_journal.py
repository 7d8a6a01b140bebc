"""The journal: debit is credit, a locked month takes nothing more, and a change is named."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from billing.facade import journal
from billing.ledger import chart, months
from billing.ledger import journal as lines_of
from billing.models import AccountKind, MonthLock
from kernel.errors import NotFound, Refusal
from kernel.sheet import lines
from tests.area.billing.conftest import (
    DAY,
    USD,
    corrupt,
    credit,
    open_org,
    rent,
    start,
    use,
    window,
)

pytestmark = pytest.mark.django_db(transaction=True)
MARCH, APRIL = date(2026, 3, 1), date(2026, 4, 1)
LATER = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture
def march(at):
    """A top-up and three hours of use in March, now seen from the third of April."""
    at(DAY)
    org = open_org()
    credit(org, 50 * USD)
    rental = rent(org)
    start(rental, DAY)
    for hour in range(3):
        at(DAY + timedelta(hours=hour + 1))
        use(window(rental, DAY + timedelta(hours=hour), 3600))
    at(LATER)
    return org


def lock(month=MARCH):
    with transaction.atomic():
        return journal.lock_month(month, actor="staff:usr_1")


def finished() -> None:
    """The locked month is worked out. It waits for every transaction that was under way on the
    server then, also for those of tests that run beside this one."""
    until = time.monotonic() + 120
    while not months.finish():
        assert time.monotonic() < until, "it never ends"


def exported(month=MARCH) -> str:
    return "".join(lines(journal.journal_rows(month)))


def read(month=MARCH):
    return list(csv.DictReader(io.StringIO(exported(month))))


def test_every_kind_of_account_has_a_number_of_its_own():
    assert set(chart.CHART) == set(AccountKind)
    assert len({code for code, _ in chart.CHART.values()}) == len(chart.CHART)


def test_debits_are_credits_per_transaction_and_month_and_stand_on_the_right_side(march):
    rows = read()
    for txn in {row["transaction"] for row in rows}:
        legs = [row for row in rows if row["transaction"] == txn]
        sides = [sum(Decimal(leg[side] or 0) for leg in legs) for side in ("debit", "credit")]
        assert sides[0] == sides[1] > 0
    assert all(bool(row["debit"]) != bool(row["credit"]) for row in rows)
    topup = {row["account_code"]: row for row in rows if row["kind"] == "topup"}
    assert topup["1000"]["debit"] == topup["2000"]["credit"] == "50.000000", "cash in is a debit"
    fees = [row for row in rows if row["account_code"] == "4000"]
    assert fees
    assert all(row["credit"] for row in fees), "income is a credit"
    view = journal.month(MARCH)
    assert view.debit_micro == view.credit_micro > 0
    assert view.transactions == len({row["transaction"] for row in rows})
    by_code = {line.code: line for line in view.lines}
    assert by_code["1000"].balance_micro == 50 * USD
    assert sum(line.balance_micro for line in view.lines) == 0


def test_pages_of_any_size_give_the_same_journal(march, monkeypatch):
    whole = exported()
    monkeypatch.setattr(lines_of, "PAGE", 1)
    assert exported() == whole


def test_a_locked_month_takes_no_transaction_whatever_the_clock_says(march, at):
    lock()
    assert journal.month(MARCH).state == "closing"
    at(datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC))
    with pytest.raises(DatabaseError, match="locked"):
        credit(march, 5 * USD)
    at(LATER)
    credit(march, 5 * USD)  # the product goes on
    assert len(read(APRIL)) == 2


def test_the_export_of_a_locked_month_stays_byte_for_byte(march, monkeypatch):
    before = exported()
    lock()
    finished()
    assert months.finish() == 0
    view = journal.month(MARCH)
    assert view.state == "locked"
    assert view.digest == months.digest(journal.journal_rows(MARCH))
    renamed = chart.CHART | {AccountKind.TENANT: ("2999", "Something else")}
    monkeypatch.setattr(chart, "CHART", renamed)
    assert exported() == before
    call_command("journal", "--verify", stdout=io.StringIO())


def test_the_verifier_names_the_hour_that_was_changed(march, tmp_path):
    whole = exported()
    file = tmp_path / "march.csv"
    file.write_text(whole, newline="")
    lock()
    finished()
    call_command("journal", "2026-03", "--verify", "--against", str(file), stdout=io.StringIO())
    corrupt(
        "billing_posting",
        "UPDATE billing_posting SET amount_micro = amount_micro * 2 WHERE txn_id = (SELECT id"
        " FROM billing_transaction WHERE kind = 'usage' ORDER BY at OFFSET 1 LIMIT 1)",
    )
    with pytest.raises(CommandError, match=r"2026-03: the hour from 2026-03-01 02:00 UTC"):
        call_command("journal", "--verify")
    with pytest.raises(CommandError, match=r"line \d+: the ledger has .*, the file"):
        call_command("journal", "2026-03", "--verify", "--against", str(file))


def test_the_verifier_sees_a_transaction_that_came_or_went(march):
    lock()
    finished()
    corrupt("billing_posting", "DELETE FROM billing_posting WHERE true")
    (found,) = months.verify()
    assert "had 2 transactions and has 0" in found


def test_the_digest_waits_for_transactions_that_were_under_way(march, monkeypatch):
    lock()
    row = MonthLock.objects.get()
    monkeypatch.setattr(months, "_number", lambda _query: row.xact)
    assert months.finish() == 0
    monkeypatch.undo()
    finished()


def test_months_are_locked_in_order_after_their_end_and_once(march, at):
    credit(march, 5 * USD)
    with pytest.raises(Refusal, match="a day after"):
        lock(APRIL)
    with pytest.raises(NotFound):
        lock(date(2026, 2, 1))
    at(datetime(2026, 5, 3, tzinfo=UTC))
    with pytest.raises(Refusal, match="2026-03 comes first"):
        lock(APRIL)
    lock()
    with pytest.raises(Refusal, match="locked already"):
        lock()
    lock(APRIL)
    assert [view.state for view in journal.months()] == ["open", "closing", "closing"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM billing_monthlock",
        "TRUNCATE billing_monthlock",
        "UPDATE billing_monthlock SET month = '2020-01-01'",
        "UPDATE billing_monthlock SET digest = 'x'",
    ],
)
def test_a_lock_stays(march, statement):
    lock()
    finished()
    with (
        pytest.raises(DatabaseError, match=r"stays|append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
