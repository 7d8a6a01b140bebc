from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class MarketplaceConfig(AppConfig):
    """What is sold. The curated templates are brought up to date after every migrate."""

    name = "marketplace"
    label = "marketplace"

    def ready(self) -> None:
        post_migrate.connect(load_templates, sender=self, dispatch_uid="marketplace.templates")


def load_templates(sender: AppConfig, using: str, **_: Any) -> None:
    """After this area migrated; a migrate that stops before its tables exist changes nothing."""
    from marketplace.catalog.templates import load_curated
    from marketplace.models import Template

    if Template._meta.db_table in connections[using].introspection.table_names():
        load_curated()
