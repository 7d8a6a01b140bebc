"""`manage.py reconcile`: compare everything now; a table, and status 1 when something differs."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.facade import reconciliation as billing
from kernel.money import CURRENCY, format_micro
from marketplace.rentals.reconcile import reconcile


class Command(BaseCommand):
    """Reads only, but for the breaks that it writes down; may be run at any time."""

    help = "Compare proof, charges, ledger and Stripe (R1 to R8 of docs/ledger.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--full", action="store_true", help="everything there ever was, not what is new"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if reconcile(full=options["full"]) is None:
            raise CommandError("Another run is under way.")
        failed = ""
        try:
            call_command("reconcile_books", full=options["full"], stdout=self.stdout)
        except CommandError as error:
            failed = str(error)
        found = billing.breaks(state="open")
        for view in found:
            self.stdout.write(
                f"{view.rule}  {view.first_seen_at:%Y-%m-%d %H:%M}  {view.subject}  "
                f"expected {view.expected}, found {view.found}  {view.text}"
            )
        owed = billing.coverage()
        self.stdout.write(
            f"R8  cash {format_micro(owed.cash_micro)}, owed to tenants "
            f"{format_micro(owed.tenants_micro)}, providers {format_micro(owed.providers_micro)}, "
            f"tax {format_micro(owed.tax_micro)}, short {format_micro(owed.short_micro)} {CURRENCY}"
        )
        self.stdout.write(f"{len(found)} open breaks")
        if failed:
            raise CommandError(failed)
        if found:
            raise CommandError("The two sides differ: see docs/runbooks/break-found.md.")
