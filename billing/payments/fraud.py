"""Signals of fraud per organization: counts for people to judge, nothing acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts.refunds import FraudView

# A failed top-up counts once, whether Stripe made a payment of it or refused it at once.
_SIGNALS = """
SELECT o.org_ref,
       (SELECT count(*) FROM billing_topup t WHERE t.org_ref = o.org_ref AND t.state = 'failed')
         + (SELECT count(*) FROM billing_payment p WHERE p.org_ref = o.org_ref
              AND p.kind = 'invoice' AND p.state = 'failed'),
       (SELECT count(*) FROM billing_paymentmethod m WHERE m.org_ref = o.org_ref),
       (SELECT count(*) FROM billing_dispute d WHERE d.org_ref = o.org_ref),
       (SELECT count(*) FROM billing_refundorder r WHERE r.org_ref = o.org_ref)
         + (SELECT count(*) FROM billing_refund r JOIN billing_payment p ON p.id = r.payment_id
             WHERE p.org_ref = o.org_ref AND r.order_id IS NULL),
       (SELECT min(x.at) FROM billing_payment p JOIN billing_transaction x ON x.id = p.txn_id
         WHERE p.org_ref = o.org_ref)
  FROM unnest(%s::uuid[]) AS o (org_ref)
"""


def signals(*, org_refs: Sequence[UUID]) -> dict[UUID, FraudView]:
    """The counts of each organization, in one query."""
    with connection.cursor() as cursor:
        cursor.execute(_SIGNALS, [list(org_refs)])
        rows: list[tuple[UUID, int, int, int, int, datetime | None]] = cursor.fetchall()
    return {row[0]: FraudView(*row) for row in rows}
