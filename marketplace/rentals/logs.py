"""Whose log a rental has to show: a live machine's, which the streams process reads, or a kept one.

The web process speaks to no cluster. For a live machine it only says who may look, with a signed
grant for a minute; what was kept of an ended one is in the database.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings

from kernel.errors import NotFound
from kernel.grants import Grant, sign
from kernel.ids import BadId
from kernel.ids import parse as parse_id
from marketplace.models import Rental
from provisioner import facade as provisioner
from provisioner.contracts import InstanceState, InstanceView, LogText
from provisioner.contracts.streaming import LOGS_FOLLOW, LOGS_TAIL, STREAM_PATHS

_NEVER: Final = "No machine was placed yet, so there is no log."
_NOT_KEPT: Final = (
    "Nothing was kept of this machine's log: it ended on request, its program never ran, or it is "
    "over 30 days ago. A machine that ends by itself leaves its last 64 KiB."
)
_NO_RUN_BEFORE: Final = "The program ran once only, or nothing of its run before was kept."


@dataclass(frozen=True)
class Asked:
    """What a reader wants. instance: a public id, None for the latest machine. previous: the run
    before the program's last restart."""

    tail: int
    instance: str | None = None
    previous: bool = False
    follow: bool = False


@dataclass(frozen=True)
class Handed:
    """A live log: the address of the streams process that shows it, good for a minute."""

    instance_id: UUID
    address: str


def log_of(rental: Rental, asked: Asked) -> LogText | Handed:
    """A rental that the caller may see -> its log. Raises NotFound for another's instance."""
    machine = _machine(rental, asked.instance)
    if machine is None:
        return LogText(None, "none", detail=_NEVER)
    if machine.state in (InstanceState.STOPPING, InstanceState.GONE):
        kept = provisioner.kept_logs(instance_id=machine.id)
        chosen = [log for log in kept if log.previous == asked.previous]
        if chosen:
            return _last_lines(chosen[0], asked.tail)
        if machine.state == InstanceState.GONE:
            detail = _NO_RUN_BEFORE if kept else _NOT_KEPT
            return LogText(machine.id, "none", detail=detail, previous=asked.previous)
    return Handed(machine.id, _address(rental, machine, asked))


def _machine(rental: Rental, instance: str | None) -> InstanceView | None:
    machines = provisioner.instances(rental_ref=rental.id)
    if instance is None:
        return machines[0] if machines else None
    try:
        wanted = parse_id("instance", instance)
    except BadId as error:
        raise NotFound("instance") from error
    for machine in machines:
        if machine.id == wanted:
            return machine
    raise NotFound("instance")


def _address(rental: Rental, machine: InstanceView, asked: Asked) -> str:
    verb = LOGS_FOLLOW if asked.follow else LOGS_TAIL
    grant = Grant(verb, subject=machine.id, owner=rental.organization_id)
    query: dict[str, object] = {
        "grant": sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time()),
        "tail": asked.tail,
    }
    if asked.previous:
        query["previous"] = "true"
    return f"{STREAM_PATHS[verb]}?{urlencode(query)}"


def _last_lines(log: LogText, tail: int) -> LogText:
    lines = log.lines[-tail:] if tail else ()
    return replace(log, lines=lines, truncated=log.truncated or len(lines) < len(log.lines))
