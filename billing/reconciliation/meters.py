"""R6: the seconds that were charged and mirrored, by organization and card type. No network here.

Counted are usage lines, through the spans that say which of them an event covered; the events' own
sums are compared with the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts.reconciliation import Difference

_UNIT = "gpu_seconds"

# What each event says against the lines that it covers.
_BATCHES = """
SELECT b.id, b.identifier, b.gpu_seconds, s.seconds, s.rentals
  FROM billing_meterbatch b, LATERAL (
    SELECT coalesce(sum(u.seconds * u.gpus), 0)::bigint AS seconds,
           array_agg(DISTINCT 'rental:' || u.rental_ref) AS rentals
      FROM billing_meterspan p
      JOIN billing_usageline u
        ON u.rental_ref = p.rental_ref AND u.seq BETWEEN p.first_seq AND p.last_seq
     WHERE p.batch_id = b.id) s
 WHERE b.gpu_seconds <> s.seconds AND (b.created_at >= %(since)s OR b.id = ANY(%(again)s::uuid[]))
 ORDER BY b.id
"""

# Organizations and card types with events sent since then, all of whose events have left.
_PAIRS = """
WITH touched AS (
  SELECT org_ref, accelerator, date_trunc('day', min(at), 'UTC') AS begins
    FROM billing_meterbatch
   WHERE (sent_at >= %(since)s OR org_ref || '/' || accelerator = ANY(%(again)s)) AND at < %(until)s
   GROUP BY 1, 2
)
SELECT t.org_ref, t.accelerator, c.stripe_id, m.stripe_id, t.begins
  FROM touched t JOIN billing_customer c USING (org_ref)
  JOIN billing_stripemeter m USING (accelerator)
 WHERE c.stripe_id IS NOT NULL AND m.stripe_id IS NOT NULL AND (
   t.org_ref || '/' || t.accelerator = ANY(%(again)s) OR NOT EXISTS (
   SELECT FROM billing_meterbatch b LEFT JOIN billing_stripecall s ON s.key = b.identifier
    WHERE b.org_ref = t.org_ref AND b.accelerator = t.accelerator
      AND b.at >= t.begins AND b.at < %(until)s
      AND (b.sent_at >= %(until)s OR (b.sent_at IS NULL AND s.state = 'pending'))))
 ORDER BY 1, 2
"""

_SECONDS = """
SELECT coalesce(sum(u.seconds * u.gpus), 0)::bigint,
       coalesce(array_agg(DISTINCT 'rental:' || u.rental_ref)
                FILTER (WHERE u.rental_ref IS NOT NULL), '{}')
       || coalesce(array_agg(DISTINCT 'batch:' || b.id) FILTER (WHERE b.id IS NOT NULL), '{}')
  FROM billing_meterbatch b JOIN billing_meterspan p ON p.batch_id = b.id
  JOIN billing_usageline u
    ON u.rental_ref = p.rental_ref AND u.seq BETWEEN p.first_seq AND p.last_seq
 WHERE b.org_ref = %s AND b.accelerator = %s AND b.at >= %s AND b.at < %s
   AND b.sent_at IS NOT NULL
"""


@dataclass(frozen=True)
class Pair:
    """An organization's use of a card type since a day, with Stripe's ids of both."""

    org_ref: UUID
    accelerator: str
    customer: str
    meter: str
    begins: datetime


def batches(since: datetime, again: list[str]) -> list[Difference]:
    """Events made since then whose seconds are not those of their lines; ``again``: subjects that
    differed before."""
    ids = [subject.removeprefix("batch:") for subject in again if subject.startswith("batch:")]
    with connection.cursor() as cursor:
        cursor.execute(_BATCHES, {"since": since, "again": ids})
        return [
            Difference(
                name="meter_seconds",
                subject=f"batch:{row[0]}",
                expected=str(row[3]),
                found=str(row[2]),
                text=f"The meter event {row[1]} is not the sum of the lines that it covers",
                amount=row[2] - row[3],
                unit=_UNIT,
                about=frozenset({f"batch:{row[0]}", *(row[4] or ())}),
            )
            for row in cursor.fetchall()
        ]


def pairs(since: datetime, until: datetime, again: list[str]) -> list[Pair]:
    """Whose seconds to compare; without those that have an event under way."""
    names = [subject.removeprefix("meter:") for subject in again if subject.startswith("meter:")]
    with connection.cursor() as cursor:
        cursor.execute(_PAIRS, {"since": since, "until": until, "again": names})
        return [Pair(*row) for row in cursor.fetchall()]


def compare(pair: Pair, until: datetime, there: int) -> Difference | None:
    """Stripe's sum of the pair's events in [begins, until) against the lines they cover."""
    with connection.cursor() as cursor:
        cursor.execute(_SECONDS, [pair.org_ref, pair.accelerator, pair.begins, until])
        here, about = cursor.fetchone()
    if here == there:
        return None
    subject = f"meter:{pair.org_ref}/{pair.accelerator}"
    return Difference(
        name="meter_seconds",
        subject=subject,
        expected=str(here),
        found=str(there),
        text=f"Stripe counts other seconds of {pair.accelerator} for organization {pair.org_ref}"
        f" since {pair.begins:%Y-%m-%d} than were charged",
        amount=there - here,
        unit=_UNIT,
        about=frozenset({subject, *about}),
    )
