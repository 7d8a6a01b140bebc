"""Walk the audit chain: ``manage.py verify_audit``. Exit status 1 names the changed rows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.accounts import audit


class Command(BaseCommand):
    help = "Check the audit trail's hash chain and name every row that does not fit."

    def handle(self, *args: Any, **options: Any) -> None:
        verdict = audit.verify()
        self.stdout.write(
            f"{verdict.sealed} rows sealed, {verdict.unsealed} waiting; "
            f"newest hash {verdict.newest_hash or 'none'}"
        )
        if verdict.faults:
            raise CommandError("\n".join(["the audit trail does not hold:", *verdict.faults]))
        self.stdout.write("the chain holds")
