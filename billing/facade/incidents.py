"""Billing's door for credits of incidents that staff named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from billing.contracts.incidents import (
    IncidentCreditView,
    IncidentPart,
    IncidentQuote,
    IncidentTerms,
)
from billing.metering import incident as _incident
from kernel.spans import Span


def quote(*, terms: IncidentTerms, parts: Sequence[IncidentPart]) -> list[IncidentQuote]:
    """What each rental would be given now; stores nothing."""
    return _incident.quote(terms=terms, parts=parts)


def credit(*, terms: IncidentTerms, parts: Sequence[IncidentPart]) -> dict[UUID, int]:
    """In a transaction: book what each rental is given, once per incident and rental; the amounts.

    Seconds that were given back meanwhile are left out, so it may be less than was quoted.
    """
    return _incident.credit(terms=terms, parts=parts)


def interrupted(*, rental_refs: Iterable[UUID]) -> dict[UUID, list[Span]]:
    """Per rental, the stretches that were credited as interruptions."""
    return _incident.interrupted(rental_refs=rental_refs)


def credits_of(*, rental_ref: UUID) -> list[IncidentCreditView]:
    """What a rental was given for incidents, oldest first."""
    return _incident.credits_of(rental_ref=rental_ref)
