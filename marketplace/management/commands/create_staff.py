"""Make a member of staff, or set an existing one's password: ``manage.py create_staff EMAIL``.

The password comes from the environment variable GPUYARD_STAFF_PASSWORD or is asked for; never
from the command line, where every process of the machine could read it.
"""

from __future__ import annotations

import getpass
import os
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from kernel.errors import Refusal
from marketplace.accounts import join


class Command(BaseCommand):
    help = "Make a member of staff; the password is asked for or read from GPUYARD_STAFF_PASSWORD."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="")
        parser.add_argument(
            "--superuser", action="store_true", help="may also change records in Django admin"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"]
        try:
            validate_email(email)
        except ValidationError as error:
            raise CommandError(f"{email!r} is no e-mail address") from error
        password = os.environ.get("GPUYARD_STAFF_PASSWORD") or getpass.getpass("Password: ")
        try:
            made = join.make_staff(
                email=email,
                password=password,
                name=options["name"],
                superuser=options["superuser"],
            )
        except Refusal as error:
            raise CommandError("; ".join(error.extra["errors"]["password"])) from error
        self.stdout.write(f"{email}: {'made' if made else 'is staff now, password set'}")
