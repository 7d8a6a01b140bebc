"""`manage.py reconcile_books`: the ledger with itself and with Stripe, a part of `reconcile`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel.errors import VendorError


class Command(BaseCommand):
    help = "Compare the ledger with itself and with Stripe; `reconcile` does this and more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--full", action="store_true", help="everything there ever was")

    def handle(self, *args: Any, **options: Any) -> None:
        # Stripe's package takes a second to import: only the run needs it, not its help.
        from billing.stripe_gateway.reconcile import reconcile

        try:
            done = reconcile(full=options["full"])
        except VendorError as error:
            raise CommandError(f"Stripe did not answer; run it again. ({error})") from error
        if done is None:
            raise CommandError("Another run is under way.")
