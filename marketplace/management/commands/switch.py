"""Switches of the people on call: ``manage.py switch list``, ``on NAME --note …``, ``off NAME``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from marketplace.accounts import switches
from marketplace.accounts.switches import SwitchView


class Command(BaseCommand):
    help = "Stop new rentals (everywhere or of one cluster), stop charging, or show only."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="those that are on and those of the last thirty days")
        for action in ("on", "off"):
            turn = actions.add_parser(action, help=f"turn one {action}")
            turn.add_argument("name", help="stop_rentals, stop_charging or read_only")
            turn.add_argument("--cluster", help="clu_…: stop_rentals of this cluster only")
            if action == "on":
                turn.add_argument("--note", required=True, help="why; people are shown it")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for view in switches.history():
                self.stdout.write(line(view))
            return
        try:
            with transaction.atomic():
                view = switches.turn(
                    acting="console",
                    name=options["name"],
                    on=options["action"] == "on",
                    cluster=options["cluster"],
                    note=options.get("note") or "",
                )
        except InvalidRequest as error:
            said = [f"{name}: {'; '.join(why)}" for name, why in error.extra["errors"].items()]
            raise CommandError("\n".join(said)) from error
        except Refusal as error:
            raise CommandError(str(error)) from error
        self.stdout.write(line(view))


def line(view: SwitchView) -> str:
    """One switch for people."""
    where = "everywhere" if view.cluster_id is None else public("cluster", view.cluster_id)
    state = "ON" if view.off_at is None else f"off {view.off_at} by {view.off_by}"
    return f"{view.name} {where}: {state}; on {view.on_at} by {view.on_by}: {view.note}"
