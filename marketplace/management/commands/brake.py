"""The mass brake on the command line: ``manage.py brake list`` and ``brake release ID --note``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel.errors import Refusal
from kernel.ids import public
from marketplace.providers import brakes
from provisioner.contracts import BrakeView


class Command(BaseCommand):
    help = "List the pulls of the mass brake, or let go of one after you have looked."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="open ones and those of the last thirty days")
        release = actions.add_parser("release", help="let go of one")
        release.add_argument("id", help="brk_…")
        release.add_argument("--note", required=True, help="what you looked at and found")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for view in brakes.brakes():
                self.stdout.write(line(view))
            return
        try:
            with transaction.atomic():
                view = brakes.release(
                    acting="console", brake_id=options["id"], note=options["note"]
                )
        except Refusal as error:
            raise CommandError(str(error)) from error
        self.stdout.write(line(view))


def line(view: BrakeView) -> str:
    """One brake for people."""
    where = "everywhere" if view.cluster_id is None else public("cluster", view.cluster_id)
    state = (
        "OPEN" if view.released_at is None else f"released {view.released_at} by {view.released_by}"
    )
    held = f"{view.wanted} wanted, limit {view.limit}"
    return (
        f"{public('brake', view.id)} {view.tripped_at} {where} {view.cause}: {state};"
        f" {held}; {view.detail}; {view.note or 'no note'}"
    )
