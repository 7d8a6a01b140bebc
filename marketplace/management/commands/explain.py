"""Everything known of one rental in the order of time: ``manage.py explain ren_…``."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel.errors import NotFound
from kernel.text import rfc3339
from marketplace.oncall.explain import explain


class Command(BaseCommand):
    help = "Everything known of one rental, in the order of time, with where it is written."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("rental", help="ren_…")
        parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            facts = explain(options["rental"])
        except NotFound as error:
            raise CommandError(f"There is no rental {options['rental']!r}.") from error
        if options["json"]:
            rows = [
                {"at": rfc3339(fact.at), "source": fact.source, "id": fact.id, "text": fact.text}
                for fact in facts
            ]
            self.stdout.write(json.dumps(rows))
            return
        for fact in facts:
            self.stdout.write(f"{rfc3339(fact.at)} {fact.source:<14} {fact.id} {fact.text}")
