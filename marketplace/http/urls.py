"""Addresses of the marketplace: the API under /api/v1, probes, problem pages and the portal
at the root."""

from __future__ import annotations

from django.urls import include, path

from marketplace.http import enrol, health, problems
from marketplace.http.api import (
    account,
    billing,
    brakes,
    catalog,
    description,
    economics,
    entry,
    frozen,
    funds,
    journal,
    nodes,
    oncall,
    owned_offers,
    payout_runs,
    payouts,
    ports,
    preflight,
    promotions,
    provider,
    reconciliation,
    relays,
    rentals,
    reports,
    returns,
    second_factor,
    secrets,
    staff,
    supply,
    tax,
    templates,
    usage,
    visibility,
    visits,
    volumes,
    webhooks,
)
from marketplace.http.api import (
    portal as stripe_portal,
)
from marketplace.http.portal import urls as portal
from marketplace.http.staff import abuse as staff_abuse
from marketplace.http.staff import books as staff_books
from marketplace.http.staff import economics as staff_economics
from marketplace.http.staff import losses as staff_losses
from marketplace.http.staff import pages as staff_pages
from marketplace.http.staff import payouts as staff_payouts
from marketplace.http.staff import returns as staff_returns

_API = [
    *entry.urls,
    *account.urls,
    *second_factor.urls,
    *billing.urls,
    *usage.urls,
    *stripe_portal.urls,
    *promotions.urls,
    *returns.urls,
    *frozen.urls,
    *funds.urls,
    *tax.urls,
    *catalog.urls,
    *templates.urls,
    *secrets.urls,
    *rentals.urls,
    *ports.urls,
    *reports.urls,
    *volumes.urls,
    *visits.urls,
    *provider.urls,
    *nodes.urls,
    *owned_offers.urls,
    *visibility.urls,
    *supply.urls,
    *preflight.urls,
    *relays.urls,
    *payouts.urls,
    *economics.urls,
    *payout_runs.urls,
    *staff.urls,
    *journal.urls,
    *brakes.urls,
    *reconciliation.urls,
    *webhooks.urls,
    *oncall.urls,
    *description.urls,
]

urlpatterns = [
    path("api/v1/", include(_API)),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path("", include(enrol.urls)),
    path("problems/<slug:slug>", problems.problem_page),
    path("", include(staff_pages)),
    path("", include(staff_books)),
    path("", include(staff_returns)),
    path("", include(staff_losses)),
    path("", include(staff_payouts)),
    path("", include(staff_economics)),
    path("", include(staff_abuse)),
    path("", include(portal)),
]
