"""Switch somebody's second factor off: ``manage.py remove_second_factor EMAIL``.

For a person who lost the app and the recovery codes. Whoever runs this has made sure by other means
that it is that person who asks; it leaves an audit row, and the person gets a mail.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel.errors import NotFound
from marketplace.accounts import second_factor


class Command(BaseCommand):
    help = "Switch off the second factor of somebody who lost app and recovery codes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic(durable=True):
                second_factor.remove_for(email=options["email"], acting="platform")
        except NotFound as error:
            raise CommandError("nobody of that address has a second factor") from error
        self.stdout.write(f"{options['email']}: the second factor is off, their sessions ended")
