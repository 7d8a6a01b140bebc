"""R7: per provider, shares less what was taken back = pending + due + clearing + paid.

Shares are the usage lines', not the ledger's legs; clearing and paid are the legs of the
provider's payout lines. So a share booked for somebody else, a maturing that fell short, a payout
out of another's account or a line that Stripe's state and the ledger see differently shows up.
"""

from __future__ import annotations

from uuid import UUID

from django.db import connection

from billing.contracts.payouts import ProviderBreak

_DIFFERENCES = """
WITH own AS (
  SELECT a.owner_ref AS provider_ref,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'provider_pending'), 0) AS pending,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'provider_due'), 0) AS due,
         coalesce(sum(p.amount_micro) FILTER (WHERE t.kind NOT IN (
           'usage', 'disk_usage', 'maturity', 'clawback', 'payout', 'payout_returned'
         )), 0) AS taken
    FROM billing_account a
    JOIN billing_posting p ON p.account_id = a.id
    JOIN billing_transaction t ON t.id = p.txn_id
   WHERE a.kind IN ('provider_pending', 'provider_due')
   GROUP BY 1
), share AS (
  SELECT m.provider_ref, sum(u.provider_micro) AS micro
    FROM billing_usageline u JOIN billing_rentalmeter m USING (rental_ref)
   GROUP BY 1
), line AS (
  SELECT l.provider_ref, l.id, l.state, l.amount_micro, l.returned_micro,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'provider_clearing'), 0) AS clearing,
         coalesce(sum(p.amount_micro) FILTER (WHERE a.kind = 'stripe_cash'), 0) AS paid
    FROM billing_payoutline l
    LEFT JOIN billing_transaction t ON t.cause_type = 'payout' AND t.cause_id = l.id
    LEFT JOIN billing_posting p ON p.txn_id = t.id
    LEFT JOIN billing_account a ON a.id = p.account_id
   GROUP BY l.id
), payout AS (
  SELECT provider_ref, sum(clearing) AS clearing, sum(paid) AS paid,
         count(*) FILTER (WHERE
           clearing <> CASE WHEN state = 'clearing' THEN amount_micro ELSE 0 END
           OR paid <> CASE WHEN state IN ('sent', 'paid', 'failed')
                           THEN amount_micro - returned_micro ELSE 0 END) AS wrong
    FROM line GROUP BY 1
), side AS (
  SELECT provider_ref, coalesce(share.micro, 0) AS shares, coalesce(own.taken, 0) AS taken,
         coalesce(own.pending, 0) AS pending, coalesce(own.due, 0) AS due,
         coalesce(payout.clearing, 0) AS clearing, coalesce(payout.paid, 0) AS paid,
         coalesce(payout.wrong, 0) AS wrong
    FROM own FULL JOIN share USING (provider_ref) FULL JOIN payout USING (provider_ref)
)
SELECT provider_ref, shares::bigint, taken::bigint, pending::bigint, due::bigint,
       clearing::bigint, paid::bigint, wrong
  FROM side
 WHERE shares + taken <> pending + due + clearing + paid OR wrong > 0
 ORDER BY 1
"""


def provider_breaks() -> list[ProviderBreak]:
    """Every provider whose sums do not agree; empty when all do. One statement, no locks."""
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES)
        rows: list[tuple[UUID, int, int, int, int, int, int, int]] = cursor.fetchall()
    return [ProviderBreak(*row) for row in rows]
