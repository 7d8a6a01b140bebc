"""Platform-wide hooks that need every area: the auditors' views around each migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

_SQL = Path(__file__).with_name("facts.sql")


class PlatformConfig(AppConfig):
    """Drops the ``facts`` schema before migrations (a view would block ALTER COLUMN) and
    creates it again afterwards from one file."""

    name = "config"
    label = "platform"

    def ready(self) -> None:
        from config import checks  # noqa: F401  (registers system checks)
        from config.celery import app

        # Every process that wakes a loop must send through this application and its timeouts, the
        # web process too, which never runs a task.
        app.set_default()

        pre_migrate.connect(drop_facts, dispatch_uid="facts.drop")
        post_migrate.connect(create_facts, dispatch_uid="facts.create")
        post_migrate.connect(load_templates, dispatch_uid="templates.load")


def _is_last(sender: AppConfig) -> bool:
    from django.apps import apps

    with_models = [app for app in apps.get_app_configs() if app.models_module is not None]
    return bool(with_models) and with_models[-1].label == sender.label


def drop_facts(sender: AppConfig, using: str, **_: Any) -> None:
    """Before any application migrates; repeating it is harmless."""
    with connections[using].cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS facts CASCADE")


def create_facts(sender: AppConfig, using: str, plan: Any = (), **_: Any) -> None:
    """After the last application migrated. A partial migrate leaves the views for the full one."""
    if not _is_last(sender):
        return
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('marketplace_rental') IS NOT NULL")
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute(_SQL.read_text())


def load_templates(sender: AppConfig, using: str, **_: Any) -> None:
    """After the last application migrated: the curated templates as their data file has them."""
    from marketplace.catalog.templates import load_curated
    from marketplace.models import Template

    tables = connections[using].introspection.table_names()
    if _is_last(sender) and Template._meta.db_table in tables:
        load_curated()
