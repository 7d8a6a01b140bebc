"""Addresses of the marketplace: the API under /api/v1, probes, problem pages and the portal
at the root."""

from __future__ import annotations

from django.urls import include, path

from marketplace.http import enrol, health, problems
from marketplace.http.api import (
    account,
    billing,
    brakes,
    card_costs,
    card_history,
    catalog,
    description,
    economics,
    entry,
    fees,
    frozen,
    funds,
    incidents,
    journal,
    mail_preferences,
    nodes,
    oncall,
    owned_offers,
    payout_runs,
    payouts,
    ports,
    preflight,
    problem_reports,
    promotions,
    provider,
    reconciliation,
    relays,
    rentals,
    reports,
    returns,
    saved_searches,
    second_factor,
    secrets,
    staff,
    supply,
    tax,
    team,
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
from marketplace.http.staff import capacity as staff_capacity
from marketplace.http.staff import desk as staff_desk
from marketplace.http.staff import economics as staff_economics
from marketplace.http.staff import fees as staff_fees
from marketplace.http.staff import fraud as staff_fraud
from marketplace.http.staff import incidents as staff_incidents
from marketplace.http.staff import losses as staff_losses
from marketplace.http.staff import pages as staff_pages
from marketplace.http.staff import payouts as staff_payouts
from marketplace.http.staff import reports as staff_reports
from marketplace.http.staff import returns as staff_returns

_API = [
    *entry.urls,
    *account.urls,
    *team.urls,
    *mail_preferences.urls,
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
    *card_history.urls,
    *saved_searches.urls,
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
    *card_costs.urls,
    *payout_runs.urls,
    *staff.urls,
    *fees.urls,
    *incidents.urls,
    *journal.urls,
    *brakes.urls,
    *reconciliation.urls,
    *webhooks.urls,
    *oncall.urls,
    *problem_reports.urls,
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
    path("", include(staff_reports)),
    path("", include(staff_desk)),
    path("", include(staff_fraud)),
    path("", include(staff_fees)),
    path("", include(staff_incidents)),
    path("", include(staff_capacity)),
    path("", include(portal)),
]
