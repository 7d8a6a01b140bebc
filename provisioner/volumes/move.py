"""The one place that changes a volume's state: a guarded UPDATE plus its event, together.

The guard is what the caller decided on: the generation (the wish), the event counter and, for the
loop, the claim. Zero rows updated is a normal outcome: somebody else was first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from kernel.text import clean
from provisioner.contracts import VolumeState
from provisioner.models import Volume, VolumeEvent
from provisioner.volumes.state import REASONS, may_move


class IllegalMove(Exception):
    """The transition table does not know this move: a programming error."""


def move(
    row: Volume,
    *,
    to: VolumeState,
    reason: str,
    at: datetime,
    claim: UUID | None = None,
    evidence: dict[str, Any] | None = None,
    **changes: Any,
) -> bool:
    """Move ``row`` as it was read; False when it is not any more what was read.

    ``changes`` are further columns. On success ``row`` shows the new values.
    """
    if not may_move(VolumeState(row.state), to):
        raise IllegalMove(f"{row.state} -> {to}")
    text = REASONS[reason]
    values = {
        **changes,
        "state": to.value,
        "reason": reason,
        "state_since": at,
        "event_seq": row.event_seq + 1,
        "attempts": 0,
    }
    guard: dict[str, Any] = {
        "pk": row.pk,
        "generation": row.generation,
        "event_seq": row.event_seq,
    }
    if claim is not None:
        guard["claim_token"] = claim
    with transaction.atomic():
        if not Volume.objects.filter(**guard).update(**values):
            return False
        VolumeEvent.objects.create(
            volume_id=row.pk,
            seq=row.event_seq + 1,
            at=at,
            state=to.value,
            reason=reason,
            bound_gib=values.get("bound_gib", row.bound_gib),
            text=clean(text, limit=500),
            evidence=evidence or {},
        )
    for name, value in values.items():
        setattr(row, name, value)
    return True
