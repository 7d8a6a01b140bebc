"""Raw TCP ports: numbers of the platform that lead to ports of rentals, as rows.

The gateways put a row in for every number of GPUYARD_TCP_PORTS when they start. A rental takes free
ones for as long as it lives, over stops, starts and moves, since people write the number into their
programs. The one that lies unused for longest is given first: who knew it from its last renter
should have given up by then.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from kernel.clock import now
from kernel.errors import Refusal
from provisioner.models import RawPort

# What others have locked is being given away: waiting for it would make orders wait for orders.
_FREE = """
SELECT public_port FROM provisioner_rawport
 WHERE rental_ref IS NULL AND public_port BETWEEN %s AND %s
 ORDER BY freed_at NULLS FIRST, public_port LIMIT %s FOR UPDATE SKIP LOCKED
"""
_FILL = """
INSERT INTO provisioner_rawport (public_port) SELECT generate_series(%s::int, %s::int)
    ON CONFLICT DO NOTHING
"""


def host() -> str | None:
    """Where the numbers are; None where this platform has none to give."""
    return settings.GPUYARD_TCP_PORTS[0] if settings.GPUYARD_TCP_PORTS else None


def prepare() -> None:
    """A row for every number of the present range; free ones outside it go."""
    if settings.GPUYARD_TCP_PORTS is None:
        return
    _, low, high = settings.GPUYARD_TCP_PORTS
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_FILL, [low, high])
        outside = RawPort.objects.filter(rental_ref__isnull=True)
        outside.exclude(public_port__range=(low, high)).delete()


def give(*, rental_ref: UUID, ports: Collection[int]) -> None:
    """Exactly these ports of the rental's machines have a number from now on; those that had one
    keep it. In a transaction. Refusal no_free_port when there are not enough."""
    own = RawPort.objects.filter(rental_ref=rental_ref)
    _free(own.exclude(port__in=ports))
    missing = sorted(set(ports) - set(own.values_list("port", flat=True)))
    if not missing:
        return
    for port, number in zip(missing, _free_numbers(len(missing)), strict=True):
        RawPort.objects.filter(pk=number).update(rental_ref=rental_ref, port=port)


def take_back(*, rental_ref: UUID) -> None:
    """The rental has ended. In a transaction."""
    _free(RawPort.objects.filter(rental_ref=rental_ref))


def given() -> list[tuple[int, UUID, int]]:
    """(public port, rental, port of its machine): all that lead somewhere."""
    rows = RawPort.objects.filter(rental_ref__isnull=False)
    return [
        (number, rental, port)
        for number, rental, port in rows.values_list("public_port", "rental_ref", "port")
        if rental is not None and port is not None
    ]


def _free_numbers(count: int) -> list[int]:
    found: list[int] = []
    if settings.GPUYARD_TCP_PORTS is not None:
        _, low, high = settings.GPUYARD_TCP_PORTS
        with connection.cursor() as cursor:
            cursor.execute(_FREE, [low, high, count])
            found = [number for (number,) in cursor.fetchall()]
    if len(found) < count:
        raise Refusal(
            "no_free_port",
            "This platform has no raw TCP port left to give, which is ours to mend. Nothing was "
            "stored. Leave the port out, use protocol http, or try again later.",
        )
    return found


def _free(rows: QuerySet[RawPort]) -> None:
    rows.update(rental_ref=None, port=None, freed_at=now())
