"""Use of renters without a settled payment: it matures when they have one, or staff let it."""

from __future__ import annotations

from uuid import UUID

from django.db import connection

from billing.contracts.payouts import ReviewView
from billing.models import ClearedRenter, RentalMeter
from kernel.errors import NotFound
from kernel.money import from_minor

_WAITING = """
SELECT m.org_ref, sum(m.provider_charged_micro)::bigint, min(m.created_at),
       (SELECT coalesce(sum(p.amount_minor), 0)::bigint FROM billing_payment p
         WHERE p.org_ref = m.org_ref AND p.state = 'succeeded')
  FROM billing_rentalmeter m
 WHERE m.provider_charged_micro > 0
   AND NOT EXISTS (SELECT FROM billing_clearedrenter c WHERE c.org_ref = m.org_ref)
 GROUP BY m.org_ref
 ORDER BY 3, 1
"""


def reviews() -> list[ReviewView]:
    """Renters whose use does not mature, those that used first first."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return [
            ReviewView(org_ref, share, since, from_minor(paid))
            for org_ref, share, since, paid in cursor.fetchall()
        ]


def release(*, org_ref: UUID, actor: str, note: str) -> bool:
    """Let a renter's use mature, old enough or from the moment it is; False when it did already."""
    if not RentalMeter.objects.filter(org_ref=org_ref).exists():
        raise NotFound("organization")
    _, made = ClearedRenter.objects.get_or_create(
        org_ref=org_ref, defaults={"actor": actor[:100], "note": note[:500]}
    )
    return made
