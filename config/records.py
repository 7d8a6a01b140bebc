"""Django admin with our own site: see marketplace/http/records.py."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class RecordsConfig(AdminConfig):
    default_site = "marketplace.http.records.RecordsSite"
