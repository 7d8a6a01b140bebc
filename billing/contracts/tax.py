"""Tax as it crosses the door. Rates are parts per million of the net."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class TaxPoint(StrEnum):
    """Where tax is added. Fixed for a rental when it is rented."""

    NONE = "none"
    TOPUP = "topup"  # when credit is bought; with an invoice to pay there is no such moment: on use
    USE = "use"  # with every charge: holds cover it, so it never breaks a floor


class Exempt(StrEnum):
    """Stripe's ``tax_exempt``: what staff found out about a customer."""

    NONE = "none"
    EXEMPT = "exempt"
    REVERSE = "reverse"


@dataclass(frozen=True)
class TaxAddress:
    """Where a customer is, as far as Stripe Tax asks. country: two letters, ISO 3166-1."""

    country: str
    postal_code: str = ""
    state: str = ""
    city: str = ""
    line1: str = ""


@dataclass(frozen=True)
class TaxId:
    """Stripe's type, such as eu_vat, and the number."""

    type: str
    value: str


@dataclass(frozen=True)
class TaxProfileView:
    """Address, ids and the rate found for them. ppm None: not determined (yet, or see failure)."""

    org_ref: UUID
    point: TaxPoint
    address: TaxAddress | None
    tax_ids: tuple[TaxId, ...]
    exempt: Exempt
    ppm: int | None
    reason: str  # Stripe's word for why: standard_rated, reverse_charge, customer_exempt, ...
    determined_at: datetime | None
    source: str  # Stripe's calculation
    failure: str


@dataclass(frozen=True)
class TaxTerms:
    """What tax an organization pays now, and when. ppm 0 with a reason: none is due."""

    point: TaxPoint
    ppm: int
    reason: str
