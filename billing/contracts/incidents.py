"""What crosses the door about credits for incidents. Amounts in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kernel.spans import Span


@dataclass(frozen=True)
class IncidentTerms:
    """What holds for all rentals of an incident. by_provider: the host's fault."""

    incident_ref: UUID
    title: str
    from_at: datetime
    to_at: datetime
    percent: int
    by_provider: bool


@dataclass(frozen=True)
class IncidentPart:
    """One rental and the stretches that count for it, inside the incident's time."""

    rental_ref: UUID
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class IncidentQuote:
    """One rental's credit, worked out and not booked.

    affected_seconds: of its stretches; credited_seconds: those of them that were given back
    before; seconds: what is left of a day's. provider_micro: what the owner bears of amount_micro.
    """

    rental_ref: UUID
    org_ref: UUID
    provider_ref: UUID
    price_micro_h: int
    affected_seconds: int
    credited_seconds: int
    seconds: int
    amount_micro: int
    provider_micro: int


@dataclass(frozen=True)
class IncidentCreditView:
    """A credit that was booked."""

    rental_ref: UUID
    txn_id: UUID
    title: str
    from_at: datetime
    to_at: datetime
    seconds: int
    percent: int
    amount_micro: int
    created_at: datetime
