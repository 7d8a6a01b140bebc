"""Claiming volumes, as claim.py does for instances: a fence token, an expiry, one query."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from provisioner.models import Volume

# Longer than the longest step (a deletion and a full list of one namespace), because a claim that
# expires during a call lets a second worker make the same call.
VOLUME_CLAIM = timedelta(seconds=30)

# A cluster whose calls fail is left alone until its retry time: the breaker.
_CLAIM = """
UPDATE provisioner_volume SET claim_token = %(token)s, worked_at = app_now(),
  claim_until = app_now() + make_interval(secs => %(hold)s)
WHERE id = ANY(ARRAY(
  SELECT v.id FROM provisioner_volume v JOIN provisioner_cluster c ON c.id = v.cluster_id
  WHERE v.due_at <= app_now() AND (v.claim_until IS NULL OR v.claim_until < app_now())
    AND (c.retry_at IS NULL OR c.retry_at <= app_now())
    AND NOT v.cluster_id = ANY(%(busy)s::uuid[])
  ORDER BY v.due_at LIMIT %(limit)s FOR UPDATE OF v SKIP LOCKED
))
"""
# A wish that changed while we worked has set its own time, which must win.
_RELEASE = """
UPDATE provisioner_volume SET claim_token = NULL, claim_until = NULL, attempts = %(attempts)s,
  due_at = CASE WHEN generation = %(generation)s THEN %(due)s ELSE due_at END
WHERE id = %(id)s AND claim_token = %(token)s
"""


def claim_volumes(*, limit: int, busy: Sequence[UUID]) -> list[Volume]:
    """Volumes that are due, now ours until their ``claim_until``; oldest due first."""
    token = uuid.uuid4()
    given: dict[str, Any] = {
        "token": token,
        "hold": VOLUME_CLAIM.total_seconds(),
        "busy": list(busy),
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, given)
        if not cursor.rowcount:
            return []
    rows = Volume.objects.filter(claim_token=token).select_related("namespace", "cluster")
    return list(rows.order_by("due_at"))


def release_volume(row: Volume, *, token: UUID, due_at: datetime | None, attempts: int = 0) -> None:
    """Give a claim back and say when to look again; nothing happens if it is not ours any more."""
    given = {
        "id": row.pk,
        "token": token,
        "due": due_at,
        "attempts": attempts,
        "generation": row.generation,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, given)
