"""Charge proven windows: thousands in a handful of statements, each second exactly once."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from django.db import connection
from prometheus_client import Counter

from billing.contracts import UsageWindows
from billing.ledger.accounts import lock_purses
from billing.metering.settle import Settled, settle

log = structlog.get_logger(__name__)
OVERRUN = Counter("gpuyard_overrun_micro_total", "Use that no hold paid, borne by the platform")

# What is wrong with the first window that breaks the contract.
_WRONG = """
SELECT 'a usage window of ' || rental_ref || ' ' || CASE
         WHEN to_at <= from_at THEN 'ends before it starts'
         WHEN date_trunc('second', from_at) <> from_at OR date_trunc('second', to_at) <> to_at
           THEN 'is not in whole seconds'
         WHEN to_at > date_trunc('hour', from_at, 'UTC') + interval '1 hour'
           THEN 'leaves its UTC hour'
         WHEN to_at > present THEN 'ends in the future'
       END
  FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[]) AS w (rental_ref, from_at, to_at),
       (SELECT app_now() AS present) AS clock
 WHERE to_at <= from_at OR to_at > present
    OR date_trunc('second', from_at) <> from_at OR date_trunc('second', to_at) <> to_at
    OR to_at > date_trunc('hour', from_at, 'UTC') + interval '1 hour'
 LIMIT 1
"""

# The rentals' meters, locked in key order and looked up one by one, as in settle.py: whose they
# are, whether any is taxed, and which rentals have none.
_LOCK = """
WITH wanted AS (SELECT DISTINCT unnest(%s::uuid[]) AS ref ORDER BY ref), locked AS MATERIALIZED (
  SELECT m.* FROM wanted w, LATERAL (
    SELECT rental_ref, org_ref, provider_ref, tax_ppm FROM billing_rentalmeter
     WHERE rental_ref = w.ref FOR UPDATE
  ) AS m
)
SELECT array_agg(DISTINCT org_ref), array_agg(DISTINCT provider_ref),
       coalesce(bool_or(tax_ppm > 0), false),
       (SELECT array_agg(ref) FROM wanted
         WHERE NOT EXISTS (SELECT FROM locked WHERE rental_ref = ref))
  FROM locked
"""


def post_usage(*, windows: UsageWindows) -> int:
    """Charge what is new in ``windows``; the number of usage lines written.

    ValueError for a window that breaks the contract (unknown or ended rental, parts of a second,
    across an hour, in the future): a caller's mistake, and nothing of the batch is stored.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WRONG, [windows.rental_refs, windows.from_at, windows.to_at])
        if wrong := cursor.fetchone():
            raise ValueError(wrong[0])
        cursor.execute(_LOCK, [windows.rental_refs])
        orgs, providers, taxed, unknown = cursor.fetchone()
    if unknown:
        raise ValueError(f"usage of rentals that hold nothing: {sorted(map(str, unknown))[:5]}")
    lock_purses(orgs or ())
    settled = settle(windows=windows, provider_refs=providers or (), taxed=taxed)
    for meter in settled.meters:
        if meter.ended:
            ref = meter.rental_ref
            raise ValueError(f"usage of rental {ref}, whose hold was returned already")
    _alarm(settled.meters)
    return settled.lines


def _alarm(meters: Iterable[Settled]) -> None:
    for one in meters:
        if one.overrun_micro:
            OVERRUN.inc(one.overrun_micro)
            log.error("usage_overrun", rental=str(one.rental_ref), overrun_micro=one.overrun_micro)
