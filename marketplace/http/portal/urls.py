"""Every page of the portal, topic by topic."""

from __future__ import annotations

from marketplace.http.portal import (
    account,
    billing,
    catalogue,
    keys,
    provider,
    rent,
    rentals,
    styleguide,
    volumes,
)

urlpatterns = [
    *catalogue.urls,
    *rent.urls,
    *rentals.urls,
    *volumes.urls,
    *billing.urls,
    *keys.urls,
    *provider.urls,
    *account.urls,
    *styleguide.urls,
]
