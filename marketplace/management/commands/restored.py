"""``manage.py restored --backup-time TIME``: the first command after a restore of the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel.errors import InvalidRequest
from kernel.ids import public
from marketplace.providers import brakes


class Command(BaseCommand):
    """Before workers, watchers and beat start again: docs/runbooks/restore.md."""

    help = "Mark the database as restored: nothing is ended, deleted or sent unseen from now on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--backup-time", required=True, help="of the backup, e.g. 2026-11-27T08:00:00+00:00"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        text = options["backup_time"]
        try:
            backup_at = datetime.fromisoformat(text)
        except ValueError as error:
            raise CommandError(f"--backup-time: {text!r} is no ISO time.") from error
        if backup_at.tzinfo is None:
            raise CommandError("--backup-time: add the time zone, e.g. +00:00.")
        try:
            with transaction.atomic():
                done = brakes.mark_restored(backup_at=backup_at)
        except InvalidRequest as error:
            raise CommandError("; ".join(error.extra["errors"]["backup_time"])) from error
        self.stdout.write(
            f"{public('brake', done.brake.id)} holds everywhere since {done.brake.tripped_at}; "
            f"{done.intents} waiting intents look at Stripe before they are sent. "
            "Next: docs/runbooks/restore.md"
        )
