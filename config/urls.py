"""Every address of the platform: API and portal, Stripe's webhooks, Django admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("billing.http.urls")),
    path("", include("marketplace.http.urls")),
]

handler404 = "marketplace.http.problems.not_found"
handler500 = "marketplace.http.problems.server_error"
