"""`manage.py books`: the ledger's own checks, for people and for monitors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.facade import books


class Command(BaseCommand):
    help = "Add up the ledger; fails when a rule of docs/ledger.md is broken."

    def handle(self, *args: Any, **options: Any) -> None:
        found = books()
        for name, value in asdict(found).items():
            self.stdout.write(f"{name}: {value}")
        if not found.balanced:
            raise CommandError("The books do not hold: see the lines that are not zero.")
