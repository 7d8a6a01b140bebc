"""The ledger as a journal: one line per leg, hour by hour, in an order that never changes.

Lines are ordered by time, transaction and leg. Each hour is read in pages, so that a month of any
size takes a page of memory; the block index on the time finds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.db import connection

from billing.ledger.chart import Chart, sides
from kernel.ids import public
from kernel.money import format_micro
from kernel.sheet import Cell, lines

COLUMNS = (
    *("date", "transaction", "kind", "account_code", "account", "debit", "credit", "currency"),
    *("cause", "linked", "owner", "text"),
)
# Legs of a page: some megabytes, some milliseconds.
PAGE = 5000
HOUR = timedelta(hours=1)

_LEGS = """
SELECT t.at, t.id, p.id, t.kind, a.kind, p.amount_micro, p.currency, t.cause_type, t.cause_id,
       t.linked_id, a.owner_ref
  FROM billing_transaction t
  JOIN billing_posting p ON p.txn_id = t.id
  JOIN billing_account a ON a.id = p.account_id
 WHERE t.at >= %s AND t.at < %s AND (t.at, t.id, p.id) > (%s, %s, %s)
 ORDER BY t.at, t.id, p.id
 LIMIT %s
"""
_HOURS = """
SELECT DISTINCT date_trunc('hour', at, 'UTC') FROM billing_transaction
 WHERE at >= %s AND at < %s ORDER BY 1
"""
_SUMS = """
SELECT a.kind, coalesce(-sum(p.amount_micro) FILTER (WHERE p.amount_micro < 0), 0)::bigint,
       coalesce(sum(p.amount_micro) FILTER (WHERE p.amount_micro > 0), 0)::bigint
  FROM billing_transaction t
  JOIN billing_posting p ON p.txn_id = t.id
  JOIN billing_account a ON a.id = p.account_id
 WHERE t.at >= %s AND t.at < %s
 GROUP BY a.kind
"""


@dataclass(frozen=True)
class Hour:
    """An hour that has transactions: how many, and the SHA-256 of its lines as CSV."""

    begins: datetime
    transactions: int
    digest: str

    def stored(self) -> list[object]:
        return [self.begins.isoformat(), self.transactions, self.digest]


def bounds(month: date) -> tuple[datetime, datetime]:
    """[first moment of the month, first of the next), UTC."""
    begins = datetime(month.year, month.month, 1, tzinfo=UTC)
    return begins, (begins + timedelta(days=32)).replace(day=1)


def rows(month: date, chart: Chart) -> Iterator[list[Cell]]:
    """The journal of a month: a row of names, then one per leg."""
    yield list(COLUMNS)
    for begins in busy_hours(month):
        for _, row in hour_rows(begins, chart):
            yield row


def busy_hours(month: date) -> list[datetime]:
    """The hours of the month that have transactions, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_HOURS, bounds(month))
        return [row[0] for row in cursor.fetchall()]


def hour_rows(begins: datetime, chart: Chart) -> Iterator[tuple[UUID, list[Cell]]]:
    """(transaction, row) of one hour."""
    last: tuple[datetime, UUID, int] = (begins, UUID(int=0), 0)
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_LEGS, [begins, begins + HOUR, *last, PAGE])
            legs = cursor.fetchall()
        for leg in legs:
            yield leg[1], _row(leg, chart)
        if len(legs) < PAGE:
            return
        last = legs[-1][:3]


def hash_hour(begins: datetime, chart: Chart) -> Hour:
    """An hour's digest, over exactly the bytes that the export of the month has for it."""
    seen: set[UUID] = set()

    def counted() -> Iterator[list[Cell]]:
        for txn, row in hour_rows(begins, chart):
            seen.add(txn)
            yield row

    digest = hashlib.sha256()
    for part in lines(counted()):
        digest.update(part.encode())
    return Hour(begins, len(seen), digest.hexdigest())


def sums(month: date) -> dict[str, tuple[int, int]]:
    """kind of account -> (debit, credit) of the month."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, bounds(month))
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def count(month: date) -> int:
    """Transactions of the month."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM billing_transaction WHERE at >= %s AND at < %s", bounds(month)
        )
        return int(cursor.fetchone()[0])


def _row(leg: tuple[object, ...], chart: Chart) -> list[Cell]:
    at, txn, _, kind, account, amount, currency, cause_type, cause_id, linked, owner = leg
    assert isinstance(amount, int)
    assert isinstance(txn, UUID)
    assert isinstance(at, datetime)
    code, name = chart[str(account)]
    debit, credit = sides(amount)
    return [
        at,
        public("transaction", txn),
        str(kind),
        code,
        name,
        format_micro(debit, places=6) if debit else None,
        format_micro(credit, places=6) if credit else None,
        str(currency),
        f"{cause_type}:{cause_id}",
        public("transaction", linked) if isinstance(linked, UUID) else None,
        str(owner) if owner else None,
        f"{str(kind).replace('_', ' ').capitalize()}, {name}",
    ]
