"""A database put back to an earlier moment while clusters and Stripe go on: what a restore does."""

from __future__ import annotations

from datetime import datetime

from django.apps import apps
from django.db import connection, transaction

from kernel import clock


class Backup:
    """All rows of some areas as they are now. ``restore`` puts them back, once."""

    taken_at: datetime

    def __init__(self, *areas: str) -> None:
        self.taken_at = clock.now()
        self._tables = {
            model._meta.db_table: ", ".join(
                f'"{field.column}"'
                for field in model._meta.local_concrete_fields
                if not field.generated
            )
            for area in areas
            for model in apps.get_app_config(area).get_models(include_auto_created=True)
        }
        with connection.cursor() as cursor:
            for table, columns in self._tables.items():
                cursor.execute(f"CREATE TEMP TABLE backup_{table} AS SELECT {columns} FROM {table}")

    def restore(self) -> None:
        """Past the triggers, as the tables' owner; foreign keys are checked once all is back."""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in self._tables:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
            for table in self._tables:
                cursor.execute(f"DELETE FROM {table}")
            for table, columns in self._tables.items():
                cursor.execute(
                    f"INSERT INTO {table} ({columns}) SELECT {columns} FROM backup_{table}"
                )
                cursor.execute(f"DROP TABLE backup_{table}")
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in self._tables:
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
