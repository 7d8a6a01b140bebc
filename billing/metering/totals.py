"""What use brought, summed over everybody: for the platform's own accounts, no locks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts.usage import ShareIf, UsedMeter, UseTotal
from billing.rating.rounding import charged

# charged_until leaves out what ended before the window without looking at its lines.
_TOTALS = """
SELECT m.provider_ref, m.accelerator, sum(u.seconds::bigint * u.gpus)::bigint,
       sum(u.amount_micro)::bigint, sum(u.provider_micro)::bigint, sum(u.overrun_micro)::bigint
  FROM billing_rentalmeter m JOIN billing_usageline u USING (rental_ref)
 WHERE m.kind = 'gpu' AND m.charged_until > %s AND u.from_at >= %s AND u.from_at < %s
 GROUP BY 1, 2 ORDER BY 2, 1
"""
# Lines that follow each other by number are one run: their shares are the difference of the floors
# at its ends. A line that was proven late lies behind later ones, and begins a run of its own.
_RUNS = """
WITH line AS (
  SELECT m.rental_ref, m.provider_ref, m.kind, m.accelerator, m.price_micro_h, u.seq, u.from_at,
         u.seconds, u.amount_micro, u.provider_micro,
         sum(u.seconds) OVER (PARTITION BY m.rental_ref ORDER BY u.seq) AS upto
    FROM billing_rentalmeter m JOIN billing_usageline u USING (rental_ref)
   WHERE m.charged_until > %(from)s AND m.created_at < %(to)s
), inside AS (
  SELECT *, seq - row_number() OVER (PARTITION BY rental_ref ORDER BY seq) AS run
    FROM line WHERE from_at >= %(from)s AND from_at < %(to)s
)
SELECT provider_ref, kind, accelerator, price_micro_h, min(upto - seconds)::bigint,
       max(upto)::bigint, sum(amount_micro)::bigint, sum(provider_micro)::bigint
  FROM inside GROUP BY 1, 2, 3, 4, rental_ref, run ORDER BY 1
"""


def by_owner(*, from_at: datetime, to_at: datetime) -> list[UseTotal]:
    """The cards' use that began in [from_at, to_at), per owner and card type."""
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, [from_at, from_at, to_at])
        return [UseTotal(*row) for row in cursor.fetchall()]


def shares_if(
    *, from_at: datetime, to_at: datetime, rate: Callable[[UsedMeter], int | None]
) -> list[ShareIf]:
    """Per owner, the use that began in [from_at, to_at) of the meters for which ``rate`` gives the
    owner's share per hour, as booked and at that rate; exact, by the floors of the charge."""
    sums: dict[UUID, list[int]] = defaultdict(lambda: [0, 0, 0])
    with connection.cursor() as cursor:
        cursor.execute(_RUNS, {"from": from_at, "to": to_at})
        for owner, kind, card, price, before, upto, amount, share in cursor:
            hourly = rate(UsedMeter(owner, kind, card, price))
            if hourly is None:
                continue
            found = sums[owner]
            found[0] += amount
            found[1] += share
            found[2] += charged(hourly, upto) - charged(hourly, before)
    return [ShareIf(owner, *found) for owner, found in sums.items()]
