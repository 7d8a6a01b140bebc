"""R2, billing's half: what was charged for rentals, and whether it costs what the price says.

The proof lies elsewhere; who knows both sides compares the windows. Read are the lines of the time
asked for and all that were written after them, so a rental of a year costs what a new one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts.meters import MeterKind
from billing.contracts.reconciliation import UsedView
from billing.rating.tax import sql_tax
from kernel.arrays import array

# ``lowest``: the first line, by its number, that reaches into the time asked for. From it on every
# line is rated again, counted back from the meter's own total; a line proven late may lie before.
_USED = f"""
WITH meter AS (
  SELECT m.*, coalesce((
           SELECT min(u.seq) FROM billing_usageline u
            WHERE u.rental_ref = m.rental_ref
              AND tstzrange(u.from_at, u.to_at) && tstzrange(%(since)s, %(until)s)), m.next_seq
         ) AS lowest
    FROM billing_rentalmeter m WHERE m.rental_ref = ANY(%(refs)s::uuid[])
), line AS (
  SELECT u.*, m.price_micro_h AS price, m.provider_micro_h AS share_price, m.gpus AS cards,
         m.billable_seconds - sum(u.seconds) OVER later + u.seconds AS upto, m.tax_ppm,
         (m.charged_micro - m.overrun_micro - sum(u.amount_micro - u.overrun_micro) OVER later
           )::bigint AS paid_before
    FROM meter m
    JOIN billing_usageline u ON u.rental_ref = m.rental_ref AND u.seq >= m.lowest
  WINDOW later AS (PARTITION BY u.rental_ref ORDER BY u.seq DESC)
), rated AS (
  SELECT rental_ref, min(from_at) AS begins, count(*) AS lines, min(seq) AS lowest,
         min(seq) FILTER (WHERE
              amount_micro <> price * upto / 3600 - price * (upto - seconds) / 3600
           OR provider_micro <> share_price * upto / 3600 - share_price * (upto - seconds) / 3600
           OR price_micro_h <> price OR gpus <> cards) AS wrong,
         min(seq) FILTER (WHERE tax_micro
           <> {sql_tax("paid_before + amount_micro - overrun_micro", "tax_ppm")}
              - {sql_tax("paid_before", "tax_ppm")}) AS mistaxed,
         max(to_at) AS until, min(upto - seconds) AS before
    FROM line GROUP BY rental_ref
)
SELECT m.rental_ref, m.provider_ref, least(r.begins, %(since)s) AS begins,
       CASE
         WHEN r.wrong IS NOT NULL
           THEN 'charge ' || r.wrong || ' does not cost what its seconds cost'
         WHEN r.mistaxed IS NOT NULL
           THEN 'charge ' || r.mistaxed || ' has another tax than its rate says'
         WHEN m.charged_micro <> m.price_micro_h * m.billable_seconds / 3600
           THEN 'its total is not what its seconds cost'
         WHEN m.provider_charged_micro <> m.provider_micro_h * m.billable_seconds / 3600
           THEN 'its provider''s total is not what its seconds cost'
         WHEN coalesce(r.lines, 0) <> m.next_seq - m.lowest THEN 'a charge is missing'
         WHEN r.before < 0 OR (m.lowest = 1 AND coalesce(r.before, m.billable_seconds) <> 0)
           THEN 'its seconds are not those of its charges'
         WHEN m.charged_until < r.until THEN 'it says to be charged for less than it is'
         ELSE ''
       END
  FROM meter m LEFT JOIN rated r USING (rental_ref) ORDER BY m.rental_ref
"""  # noqa: S608 - texts of this module

_WINDOWS = """
SELECT w.rental_ref, lower(w.part), upper(w.part)
  FROM (SELECT g.rental_ref, unnest(range_agg(
                 tstzrange(u.from_at, u.to_at) * tstzrange(g.begins, %(until)s))) AS part
          FROM unnest(%(refs)s::uuid[], %(begins)s::timestamptz[]) AS g (rental_ref, begins)
          JOIN billing_usageline u
            ON u.rental_ref = g.rental_ref
           AND tstzrange(u.from_at, u.to_at) && tstzrange(g.begins, %(until)s)
         GROUP BY g.rental_ref) w
 ORDER BY 1, 2
"""

_REFS = """
SELECT rental_ref FROM billing_rentalmeter
 WHERE kind = %s AND rental_ref > %s AND (charged_until > %s OR running_since IS NOT NULL)
 ORDER BY rental_ref LIMIT %s
"""


def used(rental_refs: Sequence[UUID], *, since: datetime, until: datetime) -> list[UsedView]:
    """What was charged for these rentals in [since, until), and before where it was charged late.

    Rentals that hold no meter are absent. One call, two statements.
    """
    with connection.cursor() as cursor:
        cursor.execute(_USED, {"refs": array(rental_refs), "since": since, "until": until})
        rows = cursor.fetchall()
        refs, begins = array(row[0] for row in rows), array(row[2] for row in rows)
        cursor.execute(_WINDOWS, {"refs": refs, "begins": begins, "until": until})
        windows: dict[UUID, list[tuple[datetime, datetime]]] = {}
        for ref, begin, end in cursor.fetchall():
            windows.setdefault(ref, []).append((begin, end))
    return [
        UsedView(ref, provider, begins, tuple(windows.get(ref, ())), wrong)
        for ref, provider, begins, wrong in rows
    ]


def used_refs(*, kind: MeterKind, since: datetime, after: UUID, limit: int) -> list[UUID]:
    """Meters of that kind with charges since then, or that run: the next ones by key."""
    with connection.cursor() as cursor:
        cursor.execute(_REFS, [kind, after, since, limit])
        return [row[0] for row in cursor.fetchall()]
