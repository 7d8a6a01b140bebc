"""Stripe's own pages for cards and invoices. A session charges nothing: a second one harms nobody,
so an attempt whose outcome is unknown is simply followed by another.

What the pages offer is a configuration of our own, found by its metadata and made when it is not
there: without one Stripe refuses until somebody has saved settings in its Dashboard.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe

from billing.models import CallKind, PortalSession, StripeCall
from billing.payments import portal
from billing.stripe_gateway.client import call
from billing.stripe_gateway.steps import Step, customer_id, options
from kernel.errors import PermanentError

_OURS = "gpuyard_portal"
# Cards and invoices; what they cost is changed here and not there.
_FEATURES = {"invoice_history": {"enabled": True}, "payment_method_update": {"enabled": True}}


class OpenPortal(Step):
    kind = CallKind.PORTAL_SESSION

    def send(self, intent: StripeCall, key: str) -> stripe.billing_portal.Session:
        row = PortalSession.objects.get(id=intent.subject)
        params: Any = {
            "customer": customer_id(intent),
            "return_url": row.return_url,
            "configuration": _configuration(key),
        }
        return call(lambda client: client.v1.billing_portal.sessions.create(params, options(key)))

    def look(self, intent: StripeCall) -> None:
        """Stripe lists no sessions."""

    def apply(self, intent: StripeCall, found: stripe.billing_portal.Session) -> None:
        portal.opened(UUID(intent.subject), found.url)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        portal.refused(UUID(intent.subject), str(error))


def _configuration(key: str) -> str:
    """Stripe's id of our configuration."""
    wanted: Any = {"active": True, "limit": 100}
    made: Any = {"features": _FEATURES, "metadata": {_OURS: "1"}}

    def find(client: stripe.StripeClient) -> str:
        pages = client.v1.billing_portal.configurations
        for one in pages.list(wanted).auto_paging_iter():
            metadata: Any = one.metadata or {}
            if _OURS in metadata:
                return one.id
        return pages.create(made, options(f"{key}:configuration")).id

    return call(find)
