"""A database put back to an earlier moment while clusters and Stripe go on: what a restore does."""

from __future__ import annotations

from datetime import datetime

from django.apps import apps
from django.db import connection

from kernel import clock


class Backup:
    """All rows of some areas as they are now. ``restore`` puts them back, once."""

    taken_at: datetime

    def __init__(self, *areas: str) -> None:
        self.taken_at = clock.now()
        self._tables = [
            model._meta.db_table
            for area in areas
            for model in apps.get_app_config(area).get_models(include_auto_created=True)
        ]
        with connection.cursor() as cursor:
            for table in self._tables:
                cursor.execute(f"CREATE TEMP TABLE backup_{table} AS TABLE {table}")

    def restore(self) -> None:
        """Past triggers and foreign keys, as pg_restore does it."""
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET session_replication_role = replica")
            for table in self._tables:
                cursor.execute(f"DELETE FROM {table}")
                cursor.execute(f"INSERT INTO {table} SELECT * FROM backup_{table}")
                cursor.execute(f"DROP TABLE backup_{table}")
            cursor.execute("SET session_replication_role = DEFAULT")
