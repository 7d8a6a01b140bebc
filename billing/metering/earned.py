"""What an owner answers with for a rental that its host broke: what it brought lately, no more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

# The owner answers with what the same rental brought it in this time, not with more.
EARNED_IN = timedelta(days=1)

# The owner's share of the charges in a window, parts of a line by time and rounded down, less what
# it bore of interruptions and incidents of that time and after it.
_EARNED = """
SELECT r.ref,
       coalesce((
         SELECT sum(u.provider_micro * floor(extract(epoch FROM
                  least(u.to_at, %(until)s) - greatest(u.from_at, %(since)s)))::bigint / u.seconds)
           FROM billing_usageline u
          WHERE u.rental_ref = r.ref AND u.to_at > %(since)s AND u.from_at < %(until)s), 0)
       - coalesce((
         SELECT sum(c.provider_micro) FROM billing_outagecase c
          WHERE c.rental_ref = r.ref AND c.from_at > %(since)s), 0)
       - coalesce((
         SELECT sum(i.provider_micro) FROM billing_incidentcredit i
          WHERE i.rental_ref = r.ref AND i.from_at > %(since)s), 0)
  FROM unnest(%(rentals)s::uuid[]) AS r (ref)
"""


def earned(rental_refs: Iterable[UUID], until: datetime) -> dict[UUID, int]:
    """Per rental, the most that its owner may bear for what broke at ``until``."""
    given: dict[str, list[UUID] | datetime]
    given = {"rentals": list(rental_refs), "since": until - EARNED_IN, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(_EARNED, given)
        return {row[0]: max(int(row[1]), 0) for row in cursor.fetchall()}
