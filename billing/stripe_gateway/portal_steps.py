"""Stripe's own pages for cards and invoices. A session charges nothing: a second one harms nobody,
so an attempt whose outcome is unknown is simply followed by another."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe

from billing.models import CallKind, PortalSession, StripeCall
from billing.payments import portal
from billing.stripe_gateway.client import call
from billing.stripe_gateway.steps import Step, customer_id, options
from kernel.errors import PermanentError


class OpenPortal(Step):
    kind = CallKind.PORTAL_SESSION

    def send(self, intent: StripeCall, key: str) -> stripe.billing_portal.Session:
        row = PortalSession.objects.get(id=intent.subject)
        params: Any = {"customer": customer_id(intent), "return_url": row.return_url}
        return call(lambda client: client.v1.billing_portal.sessions.create(params, options(key)))

    def look(self, intent: StripeCall) -> None:
        """Stripe lists no sessions."""

    def apply(self, intent: StripeCall, found: stripe.billing_portal.Session) -> None:
        portal.opened(UUID(intent.subject), found.url)

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        portal.refused(UUID(intent.subject), str(error))
