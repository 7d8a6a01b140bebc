"""The journal of a month as CSV; or the proof that no locked month has changed."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.ledger import months
from kernel.sheet import lines


class Command(BaseCommand):
    help = "Write a month's journal, or verify: locked months, or a month against a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("month", nargs="?", help="such as 2026-10")
        parser.add_argument("--verify", action="store_true", help="name the first differences")
        parser.add_argument("--against", type=Path, help="with --verify: an export of the month")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verify"]:
            found = self._against(options) if options["against"] else months.verify()
            if found:
                raise CommandError("\n".join(found))
            self.stdout.write("nothing differs")
            return
        for part in lines(months.rows(self._month(options))):
            self.stdout.write(part, ending="")

    def _against(self, options: dict[str, Any]) -> list[str]:
        """The first line of the file that is not the line of the journal."""
        with options["against"].open(newline="") as exported:
            table = lines(months.rows(self._month(options)), chunk=1)
            for number, (ours, theirs) in enumerate(zip_longest(table, exported), start=1):
                if ours != theirs:
                    return [f"line {number}: the ledger has {ours!r}, the file {theirs!r}"]
        return []

    def _month(self, options: dict[str, Any]) -> Any:
        try:
            return months.parse_month(options["month"] or "")
        except ValueError as error:
            raise CommandError(f"the month {error}") from error
