"""Billing's door to Stripe's own pages for cards and invoices."""

from __future__ import annotations

from uuid import UUID

from billing.contracts.portal import PortalSessionView
from billing.payments import portal as _portal


def start_portal_session(*, org_ref: UUID, return_url: str) -> PortalSessionView:
    """In a transaction: a visit; read it again until ``url`` is there."""
    return _portal.start_portal_session(org_ref=org_ref, return_url=return_url)


def portal_session(*, org_ref: UUID, session_id: UUID) -> PortalSessionView:
    """One visit; NotFound for another organization's."""
    return _portal.portal_session(org_ref=org_ref, session_id=session_id)
