"""Ports of rentals that have names: which, for whom, by which token, and what listens there.

The gateway reads them with the rest of a rental's entry (entry.found), so a change is in force
within seconds and no pod has to be touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import F

from kernel.arrays import array
from kernel.clock import now
from kernel.errors import NotFound
from provisioner.contracts.access import NamedPort, PortsSeen
from provisioner.instances import access_keys
from provisioner.instances.port_names import PortNames
from provisioner.models import Entry

# A value of a variable that is exactly this becomes the rental's token when its Secret is made.
TOKEN_PLACEHOLDER: Final = "{{access_token}}"  # noqa: S105

# What a reporter told of an earlier machine says nothing of this one: the newest counts.
_SEEN = """
SELECT ref, c.relay_seen_at IS NOT NULL,
       CASE WHEN i.desired = 'run' AND i.state IN ('ready', 'degraded', 'unreachable')
            THEN p.listening END,
       (SELECT jsonb_object_agg(r.port, r.public_port) FROM provisioner_rawport r
         WHERE r.rental_ref = ref)
  FROM unnest(%s::uuid[]) AS ref
  JOIN LATERAL (
    SELECT * FROM provisioner_instance
     WHERE rental_ref = ref ORDER BY created_at DESC LIMIT 1) i ON true
  JOIN provisioner_cluster c ON c.id = i.cluster_id
  LEFT JOIN provisioner_reporter p ON p.instance_id = i.id
"""


def publish(*, rental_ref: UUID, ports: Iterable[NamedPort]) -> None:
    """Exactly these have names from now on. In a transaction. Nothing for a rental that never had
    a machine: whoever reserves one publishes."""
    rows = [asdict(each) for each in ports]
    Entry.objects.filter(pk=rental_ref).update(ports=rows, changed_at=now())


def token(*, rental_ref: UUID, replace: bool = False) -> str:
    """The rental's token; with ``replace`` another one from now on. In a transaction then.

    Raises NotFound for a rental that has ended or never had a machine.
    """
    rows = Entry.objects.filter(pk=rental_ref)
    if replace:
        rows.update(token_version=F("token_version") + 1, changed_at=now())
    version = rows.values_list("token_version", flat=True).first()
    if version is None:
        raise NotFound("rental")
    return access_keys.access_token(rental_ref, version, key=settings.GPUYARD_SEALING_KEY)


def with_token(env: dict[str, str], *, rental_ref: UUID) -> dict[str, str]:
    """The variables with the token where one asks for it. A value that merely contains the
    placeholder is somebody's text. A rental that has just ended has no token to give any more."""
    if TOKEN_PLACEHOLDER not in env.values():
        return env
    try:
        given = token(rental_ref=rental_ref)
    except NotFound:
        return env
    return {name: given if value == TOKEN_PLACEHOLDER else value for name, value in env.items()}


def names() -> PortNames | None:
    """None where this platform gives ports no names."""
    found = settings.GPUYARD_PORTS_URL
    return None if found is None else PortNames(*found)


def seen(*, rental_refs: Sequence[UUID]) -> dict[UUID, PortsSeen]:
    """Of these rentals, those that ever had a machine. One statement, or none for none."""
    if not rental_refs:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, [array(rental_refs)])
        return {
            ref: PortsSeen(near, told, _numbers(raw)) for ref, near, told, raw in cursor.fetchall()
        }


def _numbers(text: str | None) -> dict[int, int]:
    return {int(port): number for port, number in json.loads(text or "{}").items()}
