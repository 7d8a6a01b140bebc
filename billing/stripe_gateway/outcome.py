"""What became of an event whose object names a row of ours."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from billing.models import EventOutcome
from billing.payments import unknown
from billing.stripe_gateway import read


def outcome_of(known: bool, thing: Any, names: str, claimed_ref: UUID) -> EventOutcome:
    """Applied; or the object names a row we do not have, and is written down for people."""
    if known:
        return EventOutcome.APPLIED
    unknown.record(read.object_fact(thing), names=names, claimed_ref=claimed_ref)
    return EventOutcome.UNKNOWN_OBJECT
