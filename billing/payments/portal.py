"""Visits to Stripe's own pages: the address is made by an intent and forgotten when it expires."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from billing.contracts import PaymentState
from billing.contracts.portal import PortalSessionView
from billing.models import CallKind, PortalSession
from billing.payments.intents import intend
from billing.payments.tenants import find_customer
from billing.payments.topup import check_return_url
from kernel.clock import now
from kernel.errors import NotFound

# Stripe lets an address that nobody opened lapse after some minutes; ours is not shown for longer.
LIFE = timedelta(minutes=5)


def start_portal_session(*, org_ref: UUID, return_url: str) -> PortalSessionView:
    """Store the wish and its intent."""
    check_return_url(return_url)
    row = PortalSession.objects.create(customer=find_customer(org_ref), return_url=return_url)
    intend(CallKind.PORTAL_SESSION, key=f"portal:{row.id}", subject=row.id, org_ref=org_ref)
    row.refresh_from_db(fields=["created_at"])
    return _view(row)


def portal_session(*, org_ref: UUID, session_id: UUID) -> PortalSessionView:
    """One of the organization's; NotFound for another's."""
    row = PortalSession.objects.filter(customer=org_ref, id=session_id).first()
    if row is None:
        raise NotFound("portal session")
    return _view(row)


def opened(session_id: UUID, url: str) -> None:
    """Stripe made the page. An answer that comes twice changes nothing."""
    PortalSession.objects.filter(id=session_id, url=None).update(url=url, opened_at=now())


def refused(session_id: UUID, failure: str) -> None:
    """Stripe will not make it."""
    PortalSession.objects.filter(id=session_id, url=None).update(failure=failure[:500])


def _view(row: PortalSession) -> PortalSessionView:
    ends = row.opened_at + LIFE if row.opened_at else None
    state = PaymentState.FAILED if row.failure else PaymentState.PENDING
    if ends is not None:
        state = PaymentState.OPEN if now() < ends else PaymentState.CANCELED
    return PortalSessionView(
        id=row.id,
        state=state,
        url=row.url if state == PaymentState.OPEN else None,
        expires_at=ends,
        failure=row.failure,
        created_at=row.created_at,
    )
