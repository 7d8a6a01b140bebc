"""Billing's door to where an organization is taxed and how. Nothing here speaks to Stripe."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from billing.contracts.tax import Exempt, TaxAddress, TaxId, TaxProfileView, TaxTerms
from billing.payments import tax as _tax


def tax_profile(*, org_ref: UUID) -> TaxProfileView:
    """Address, tax ids, and the rate found for them."""
    return _tax.tax_profile(org_ref=org_ref)


def set_tax_profile(
    *,
    org_ref: UUID,
    address: TaxAddress,
    tax_ids: Sequence[TaxId] = (),
    exempt: Exempt | None = None,
    actor: str,
) -> TaxProfileView:
    """In a transaction: store them, tell Stripe and ask for the rate. InvalidRequest per field.

    exempt is for staff only; None leaves it as it is.
    """
    return _tax.set_tax_profile(
        org_ref=org_ref, address=address, tax_ids=tax_ids, exempt=exempt, actor=actor
    )


def tax_terms(*, org_ref: UUID) -> TaxTerms | None:
    """When it pays tax, and how much; None while the rate is not known."""
    return _tax.known_terms(org_ref=org_ref)
