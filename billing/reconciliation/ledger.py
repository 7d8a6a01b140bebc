"""R1 and R7: the ledger against itself, in one statement per check, naming each row that is wrong.

A statement sees one moment, so these may run at any time. Each answers subject, expected, found,
text and what the subject is connected with.
"""

from __future__ import annotations

from typing import Final

from django.db import connection

from billing.contracts import BooksView
from billing.contracts.reconciliation import MICRO, Difference
from billing.rating.tax import sql_seconds

_BALANCED = """
SELECT 'txn:' || u.txn_id, 0, u.total,
       'The ' || t.kind || ' for ' || t.cause_type || ' ' || t.cause_id
         || ' does not sum to zero in ' || u.currency,
       u.accounts || ARRAY['cause:' || t.cause_id]
         || coalesce('rental:' || l.rental_ref, 'rental:' || t.cause_id)
  FROM (SELECT txn_id, currency, sum(amount_micro)::bigint AS total,
               array_agg(DISTINCT 'account:' || account_id) AS accounts
          FROM billing_posting GROUP BY txn_id, currency HAVING sum(amount_micro) <> 0) u
  JOIN billing_transaction t ON t.id = u.txn_id
  LEFT JOIN billing_usageline l ON l.txn_id = t.id
 ORDER BY u.txn_id
"""

_STORED = """
SELECT 'account:' || a.id, s.total, a.balance_micro,
       'The balance of ' || a.kind || ' ' || a.owner_ref || ' is not the sum of its postings',
       ARRAY[]::text[]
  FROM billing_account a,
       LATERAL (SELECT coalesce(sum(p.amount_micro), 0)::bigint AS total
                  FROM billing_posting p WHERE p.account_id = a.id) s
 WHERE a.balance_micro <> s.total ORDER BY a.id
"""

_FLOOR = """
SELECT 'account:' || id, floor_micro, balance_micro,
       'The balance of ' || kind || ' ' || owner_ref || ' is under its floor', ARRAY[]::text[]
  FROM billing_account WHERE balance_micro < floor_micro ORDER BY id
"""

# Which rentals hold too much or too little, where their own postings say so; else the account.
_HELD = """
WITH wrong AS (
  SELECT a.id, a.owner_ref, a.balance_micro, coalesce(m.held, 0)::bigint AS held
    FROM billing_account a
    LEFT JOIN (SELECT org_ref, currency, sum(held_micro) AS held
                 FROM billing_rentalmeter GROUP BY org_ref, currency) m
      ON m.org_ref = a.owner_ref AND m.currency = a.currency
   WHERE a.kind = 'tenant_hold' AND a.balance_micro <> coalesce(m.held, 0)
), moved AS (
  SELECT p.account_id, coalesce(u.rental_ref, t.cause_id) AS rental_ref,
         sum(p.amount_micro)::bigint AS held
    FROM wrong w JOIN billing_posting p ON p.account_id = w.id
    JOIN billing_transaction t ON t.id = p.txn_id
    LEFT JOIN billing_usageline u ON u.txn_id = t.id
   GROUP BY 1, 2
), rental AS (
  SELECT w.id, m.rental_ref, coalesce(v.held, 0)::bigint AS expected, m.held_micro AS found
    FROM wrong w JOIN billing_rentalmeter m ON m.org_ref = w.owner_ref
    LEFT JOIN moved v ON v.account_id = w.id AND v.rental_ref = m.rental_ref
   WHERE m.held_micro <> coalesce(v.held, 0)
)
SELECT 'rental:' || rental_ref, expected, found,
       'Rental ' || rental_ref || ' does not hold what was moved for it', ARRAY['account:' || id]
  FROM rental
UNION ALL
SELECT 'account:' || id, held, balance_micro,
       'Organization ' || owner_ref || ' holds something else than its rentals',
       ARRAY(SELECT 'rental:' || rental_ref FROM billing_rentalmeter m
              WHERE m.org_ref = w.owner_ref)
  FROM wrong w
 WHERE balance_micro - held
       <> coalesce((SELECT sum(expected - found) FROM rental r WHERE r.id = w.id), 0)
 ORDER BY 1
"""

_SECONDS = sql_seconds("held_micro", "price_micro_h", "tax_ppm")
_LASTS = f"""
SELECT 'rental:' || rental_ref, extract(epoch FROM due)::bigint,
       coalesce(extract(epoch FROM paid_until), 0)::bigint,
       'Rental ' || rental_ref || ' is paid until ' || coalesce(paid_until::text, 'never')
         || ', its hold pays until ' || due,
       ARRAY[]::text[]
  FROM (SELECT *, greatest(running_since, charged_until)
                  + make_interval(secs => {_SECONDS}) AS due
          FROM billing_rentalmeter WHERE running_since IS NOT NULL AND price_micro_h > 0) m
 WHERE paid_until IS DISTINCT FROM due ORDER BY rental_ref
"""  # noqa: S608 - texts of this module

_RECEIVABLE = """
SELECT 'account:' || a.id, coalesce(r.total, 0)::bigint, a.receivable_micro,
       'The receivable of organization ' || a.owner_ref || ' is not what its invoices ask for',
       ARRAY['account:' || r.id]
  FROM billing_account a
  LEFT JOIN (SELECT i.id, i.owner_ref, i.currency, -sum(p.amount_micro) AS total
               FROM billing_account i JOIN billing_posting p ON p.account_id = i.id
              WHERE i.kind = 'invoice_ar' GROUP BY i.id) r
    ON r.owner_ref = a.owner_ref AND r.currency = a.currency
 WHERE a.kind = 'tenant' AND a.receivable_micro <> coalesce(r.total, 0) ORDER BY a.id
"""

# What rows say that a provider earned and what was taken back, against its accounts and payouts.
# A kind that moves a provider's money and comes with rows of its own is a line in ``earned``; all
# other kinds but those inside its accounts (maturity) and out of them (payouts) are corrections.
_SHARES = """
WITH earned AS (
  SELECT m.provider_ref, sum(u.provider_micro) AS micro
    FROM billing_usageline u JOIN billing_rentalmeter m USING (rental_ref) GROUP BY 1
), booked AS (
  SELECT a.owner_ref AS provider_ref, array_agg(DISTINCT 'account:' || a.id) AS accounts,
         sum(p.amount_micro) AS has,
         coalesce(-sum(p.amount_micro) FILTER (WHERE t.kind IN ('payout', 'payout_returned')), 0)
           AS paid,
         coalesce(sum(p.amount_micro) FILTER (WHERE t.kind NOT IN
           ('usage', 'disk_usage', 'maturity', 'payout', 'payout_returned')), 0) AS corrected
    FROM billing_account a JOIN billing_posting p ON p.account_id = a.id
    JOIN billing_transaction t ON t.id = p.txn_id
   WHERE a.kind IN ('provider_pending', 'provider_due') GROUP BY 1
)
SELECT 'provider:' || provider_ref,
       (coalesce(e.micro, 0) + coalesce(b.corrected, 0))::bigint,
       (coalesce(b.has, 0) + coalesce(b.paid, 0))::bigint,
       'Provider ' || provider_ref || ' does not have what it earned', coalesce(b.accounts, '{}')
  FROM earned e FULL JOIN booked b USING (provider_ref)
 WHERE coalesce(e.micro, 0) + coalesce(b.corrected, 0) <> coalesce(b.has, 0) + coalesce(b.paid, 0)
 ORDER BY provider_ref
"""

# Money of a payout: out of what is due to its own provider, by way of clearing, out of our cash.
_PAYOUTS = """
WITH line AS (
  SELECT l.*, CASE WHEN l.state IN ('clearing', 'sent', 'paid', 'failed')
                   THEN l.amount_micro - l.returned_micro ELSE 0 END AS kept,
         coalesce(-sum(p.amount_micro) FILTER (
           WHERE a.kind = 'provider_due' AND a.owner_ref = l.provider_ref), 0)::bigint AS taken,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'provider_clearing'), 0) AS clearing,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'stripe_cash'), 0)::bigint AS sent,
         array_agg(DISTINCT 'account:' || a.id) FILTER (WHERE a.id IS NOT NULL) AS accounts
    FROM billing_payoutline l
    LEFT JOIN billing_transaction t ON t.cause_type = 'payout' AND t.cause_id = l.id
    LEFT JOIN billing_posting p ON p.txn_id = t.id
    LEFT JOIN billing_account a ON a.id = p.account_id
   GROUP BY l.id
)
SELECT 'payout:' || id, kept, CASE WHEN taken <> kept THEN taken ELSE sent END,
       'The payout ' || id || ' to provider ' || provider_ref || ' is ' || state
         || ' and not booked so',
       coalesce(accounts, '{}') || ARRAY['cause:' || id, 'provider:' || provider_ref]
  FROM line
 WHERE taken <> kept OR clearing <> CASE WHEN state = 'clearing' THEN kept ELSE 0 END
    OR sent <> CASE WHEN state = 'clearing' THEN 0 ELSE kept END
 ORDER BY id
"""

_RULES: Final[dict[str, str]] = {
    "transaction_balanced": _BALANCED,
    "balance_stored": _STORED,
    "balance_floor": _FLOOR,
    "hold_covered": _HELD,
    "hold_lasts": _LASTS,
    "receivable_stored": _RECEIVABLE,
    "payout_booked": _PAYOUTS,
    "provider_shares": _SHARES,
}
OF_THE_LEDGER: Final = tuple(name for name in _RULES if name != "provider_shares")

_SUMS = "SELECT currency, sum(amount_micro) FROM billing_posting GROUP BY currency"


def differences(name: str) -> list[Difference]:
    """What breaks one of the checks of the ledger, in a fixed order."""
    with connection.cursor() as cursor:
        cursor.execute(_RULES[name])
        return [
            Difference(
                name=name,
                subject=subject,
                expected=str(expected),
                found=str(found),
                text=text,
                amount=found - expected,
                unit="seconds" if name == "hold_lasts" else MICRO,
                about=frozenset({subject, *about}),
            )
            for subject, expected, found, text, about in cursor.fetchall()
        ]


def books() -> BooksView:
    """Sums per currency and the number of rows that break a rule; all zero when the books hold."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS)
        sums = {currency: int(total) for currency, total in cursor.fetchall()}
        cursor.execute("SELECT count(*) FROM billing_transaction")
        (transactions,) = cursor.fetchone()
    return BooksView(
        sums=sums,
        transactions=transactions,
        unbalanced=len(differences("transaction_balanced")),
        drifted=len(differences("balance_stored")),
        below_floor=len(differences("balance_floor")),
        holds_uncovered=len(differences("hold_covered")),
        receivables_wrong=len(differences("receivable_stored")),
    )
