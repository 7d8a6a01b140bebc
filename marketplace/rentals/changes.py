"""What changed, for pages that are open: the version of one rental, or of a team's live ones.

The streams process asks this for everything that is watched, and tells the pages to look again; a
page learns nothing here that it may not ask for itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, Sum

from kernel.grants import Grant, sign
from marketplace.models import Organization, Rental
from provisioner.contracts.streaming import CHANGES, STREAM_PATHS

# Ended and settled: nothing of it changes any more.
OVER: Final = "over"


def address_of(subject: Rental | Organization) -> str:
    """Where the streams process tells of changes of a rental, or of an organization's rentals; good
    for a minute, for a caller who may see them."""
    owner = subject.organization_id if isinstance(subject, Rental) else subject.id
    grant = Grant(CHANGES, subject=subject.id, owner=owner)
    signed = sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time())
    return f"{STREAM_PATHS[CHANGES]}?{urlencode({'grant': signed})}"


def version_of_team(organization_id: UUID) -> str:
    """For a page that shows a team's rentals, read before them: what it shows is this or newer."""
    return _of_teams([organization_id])[organization_id]


def versions(subjects: Sequence[UUID]) -> dict[UUID, str]:
    """The present version of each rental or organization among ``subjects``. Two queries; holds no
    connection when it returns."""
    try:
        found = {
            row["id"]: OVER if row["settled_at"] and row["ended_at"] else str(row["version"])
            for row in Rental.objects.filter(id__in=subjects).values(
                "id", "version", "settled_at", "ended_at"
            )
        }
        return found | _of_teams([subject for subject in subjects if subject not in found])
    finally:
        if not connection.in_atomic_block:
            connection.close()


def _of_teams(teams: Sequence[UUID]) -> dict[UUID, str]:
    live = Rental.objects.filter(organization__in=teams, ended_at=None)
    sums = live.values("organization").annotate(n=Count("id"), moves=Sum("version"))
    # A team of which nothing lives has a version too: what ended last made it so.
    return dict.fromkeys(teams, "0.0") | {
        row["organization"]: f"{row['n']}.{row['moves']}" for row in sums
    }
