"""What use brought, summed over everybody: for the platform's own accounts, no locks."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from billing.contracts.usage import UseTotal

# charged_until leaves out what ended before the window without looking at its lines.
_TOTALS = """
SELECT m.provider_ref, m.accelerator, sum(u.seconds::bigint * u.gpus)::bigint,
       sum(u.amount_micro)::bigint, sum(u.provider_micro)::bigint, sum(u.overrun_micro)::bigint
  FROM billing_rentalmeter m JOIN billing_usageline u USING (rental_ref)
 WHERE m.kind = 'gpu' AND m.charged_until > %s AND u.from_at >= %s AND u.from_at < %s
 GROUP BY 1, 2 ORDER BY 2, 1
"""


def by_owner(*, from_at: datetime, to_at: datetime) -> list[UseTotal]:
    """The cards' use that began in [from_at, to_at), per owner and card type."""
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, [from_at, from_at, to_at])
        return [UseTotal(*row) for row in cursor.fetchall()]
