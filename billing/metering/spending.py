"""What groups of rentals spent since a moment: charged, running, held. One query for all groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import connection

from billing.contracts.spending import SpendView
from billing.rating.tax import sql_with_tax

K = TypeVar("K")

_GROSS = sql_with_tax("m.price_micro_h", "m.tax_ppm")
_SPENT = f"""
SELECT w.number, coalesce(sum(u.amount), 0)::bigint,
       coalesce(sum({_GROSS} * greatest(0, floor(extract(epoch FROM app_now()
         - greatest(m.running_since, m.charged_until, %(since)s)))::bigint) / 3600)
         FILTER (WHERE m.running_since IS NOT NULL), 0)::bigint,
       sum(m.held_micro)::bigint,
       coalesce(sum({_GROSS}) FILTER (WHERE m.running_since IS NOT NULL), 0)::bigint
  FROM unnest(%(groups)s::int[], %(rentals)s::uuid[]) AS w (number, rental_ref)
  JOIN billing_rentalmeter m USING (rental_ref)
  LEFT JOIN LATERAL (
    SELECT sum(amount_micro - overrun_micro + tax_micro) AS amount FROM billing_usageline
     WHERE rental_ref = m.rental_ref AND from_at >= %(since)s) AS u ON true
 GROUP BY w.number
"""  # noqa: S608 - texts of this module


def spent(groups: Mapping[K, Collection[UUID]], *, since: datetime) -> dict[K, SpendView]:
    """By group: what its rentals spent since then. Lines lie inside one clock hour, so with a full
    hour none is cut."""
    names = list(groups)
    pairs = [(number, ref) for number, name in enumerate(names) for ref in groups[name]]
    with connection.cursor() as cursor:
        cursor.execute(
            _SPENT,
            {
                "since": since,
                "groups": [number for number, _ in pairs],
                "rentals": [ref for _, ref in pairs],
            },
        )
        rows = {names[row[0]]: SpendView(*row[1:]) for row in cursor.fetchall()}
    return {name: rows.get(name, SpendView()) for name in names}
