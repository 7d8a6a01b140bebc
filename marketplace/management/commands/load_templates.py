"""manage.py load_templates: the curated templates as catalog/templates.toml has them now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from marketplace.catalog.templates import load_curated


class Command(BaseCommand):
    """Also done after each migrate; repeating it changes nothing."""

    help = "Load the curated templates from their data file."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{load_curated()} templates changed")
