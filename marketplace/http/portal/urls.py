"""Every page of the portal, topic by topic."""

from __future__ import annotations

from marketplace.http.portal import (
    account,
    billing,
    budgets,
    catalogue,
    documents,
    entering,
    keys,
    payouts,
    ports,
    provider,
    rent,
    rentals,
    second_factor,
    secrets,
    styleguide,
    tax,
    templates,
    terminal,
    volumes,
    webhooks,
)

urlpatterns = [
    *catalogue.urls,
    *rent.urls,
    *rentals.urls,
    *ports.urls,
    *terminal.urls,
    *volumes.urls,
    *budgets.urls,
    *tax.urls,
    *billing.urls,
    *documents.urls,
    *keys.urls,
    *secrets.urls,
    *templates.urls,
    *provider.urls,
    *payouts.urls,
    *account.urls,
    *entering.urls,
    *second_factor.urls,
    *styleguide.urls,
    *webhooks.urls,
]
