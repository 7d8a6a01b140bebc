"""`manage.py stripe_stocktake --since TIME`: what Stripe has of ours and we do not know."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel.errors import VendorError


class Command(BaseCommand):
    """After a restore of the database; reads only, and may be repeated."""

    help = "List Stripe's objects since a time and note those that this database does not know."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", required=True, help="e.g. 2026-11-27T08:00:00+00:00")

    def handle(self, *args: Any, **options: Any) -> None:
        # Stripe's package takes a second to import: only this command needs it, not its help.
        from billing.stripe_gateway.stocktake import take

        try:
            since = datetime.fromisoformat(options["since"])
        except ValueError as error:
            raise CommandError(f"--since: {options['since']!r} is no ISO time.") from error
        if since.tzinfo is None:
            raise CommandError("--since: add the time zone, e.g. +00:00.")
        try:
            found = take(since)
        except VendorError as error:
            raise CommandError(f"Stripe did not answer; run it again. ({error})") from error
        self.stdout.write(f"{found} unknown objects; manage.py unknown lists them")
