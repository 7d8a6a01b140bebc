"""The books' own checks (R1): what an auditor would add up, in a handful of queries."""

from __future__ import annotations

from django.db import connection

from billing.contracts import BooksView

_SUMS = "SELECT currency, sum(amount_micro) FROM billing_posting GROUP BY currency"

_COUNTS = """
SELECT (SELECT count(*) FROM billing_transaction),
       (SELECT count(*) FROM (
          SELECT 1 FROM billing_posting GROUP BY txn_id, currency HAVING sum(amount_micro) <> 0
        ) t),
       (SELECT count(*) FROM billing_account a WHERE a.balance_micro IS NOT NULL
           AND a.balance_micro <> coalesce((
             SELECT sum(p.amount_micro) FROM billing_posting p WHERE p.account_id = a.id), 0)),
       (SELECT count(*) FROM billing_account WHERE balance_micro < floor_micro),
       (SELECT count(*) FROM billing_account a WHERE a.kind = 'tenant_hold'
           AND a.balance_micro <> coalesce((
             SELECT sum(m.held_micro) FROM billing_rentalmeter m
              WHERE m.org_ref = a.owner_ref AND m.currency = a.currency), 0)),
       (SELECT count(*) FROM billing_account a WHERE a.kind = 'tenant'
           AND a.receivable_micro <> coalesce((
             SELECT -sum(p.amount_micro) FROM billing_posting p
               JOIN billing_account r ON r.id = p.account_id
              WHERE r.kind = 'invoice_ar' AND r.owner_ref = a.owner_ref
                AND r.currency = a.currency), 0))
"""


def books() -> BooksView:
    """Sums per currency and the number of rows that break a rule; all zero when the books hold."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS)
        sums = {currency: int(total) for currency, total in cursor.fetchall()}
        cursor.execute(_COUNTS)
        row = cursor.fetchone()
    return BooksView(
        sums=sums,
        transactions=row[0],
        unbalanced=row[1],
        drifted=row[2],
        below_floor=row[3],
        holds_uncovered=row[4],
        receivables_wrong=row[5],
    )
