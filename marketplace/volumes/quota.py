"""How many volumes, and how much of them, an organization may keep."""

from __future__ import annotations

from django.db import connection
from django.db.models import Count, Sum

from kernel.errors import Refusal
from marketplace.models import Organization, Volume

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


def check(organization: Organization) -> None:
    """Raise quota_exceeded when what is kept, this transaction's rows counted, is too much.

    Taken last in a transaction: orders of one organization queue here, each sees what those before
    it committed, and nothing else is waited for behind it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [f"volumes/{organization.id}"])
    limits = Organization.objects.get(id=organization.id)
    kept = Volume.objects.filter(organization=organization, removed_at=None).aggregate(
        number=Count("id"), gib=Sum("size_gib", default=0)
    )
    if kept["number"] > limits.quota_volumes:
        raise Refusal(
            "quota_exceeded",
            f"Your organization may keep {limits.quota_volumes} volumes and would have "
            f"{kept['number']}. Nothing was done. Delete a volume or ask support for more.",
            limit=limits.quota_volumes,
            needed=kept["number"],
        )
    if kept["gib"] > limits.quota_volume_gib:
        raise Refusal(
            "quota_exceeded",
            f"Your organization may keep {limits.quota_volume_gib} GiB in volumes and would have "
            f"{kept['gib']}. Nothing was done. Delete a volume or ask support for more.",
            limit=limits.quota_volume_gib,
            needed=kept["gib"],
        )
