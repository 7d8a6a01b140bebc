"""Every page of the portal, topic by topic."""

from __future__ import annotations

from marketplace.http.portal import (
    account,
    billing,
    budgets,
    catalogue,
    documents,
    keys,
    payouts,
    provider,
    rent,
    rentals,
    secrets,
    styleguide,
    templates,
    volumes,
    webhooks,
)

urlpatterns = [
    *catalogue.urls,
    *rent.urls,
    *rentals.urls,
    *volumes.urls,
    *budgets.urls,
    *billing.urls,
    *documents.urls,
    *keys.urls,
    *secrets.urls,
    *templates.urls,
    *provider.urls,
    *payouts.urls,
    *account.urls,
    *styleguide.urls,
    *webhooks.urls,
]
