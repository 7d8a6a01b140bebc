"""Where an organization is taxed: set by its people, told to Stripe by billing."""

from __future__ import annotations

from collections.abc import Sequence

from billing.contracts.tax import TaxAddress, TaxId, TaxProfileView
from billing.facade import tax as billing
from marketplace.accounts import audit
from marketplace.accounts.access import Principal


def set_profile(
    *, acting: Principal, address: TaxAddress, tax_ids: Sequence[TaxId]
) -> TaxProfileView:
    """Set it; joins the caller's transaction. InvalidRequest per field, email_unverified."""
    acting.require_verified()
    view = billing.set_tax_profile(
        org_ref=acting.org.id, address=address, tax_ids=tax_ids, actor=acting.org.public_id
    )
    audit.record(
        acting=acting,
        action="tax_profile.set",
        object=acting.org.public_id,
        organization_ref=acting.org.id,
        details={"country": address.country, "tax_ids": [one.type for one in tax_ids]},
    )
    return view
