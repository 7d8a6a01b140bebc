"""What a rental runs, kept sealed with it, so that it can be placed again exactly as ordered.

The environment may hold tokens: the order is encrypted for this one rental and opened only to
reserve cards with it.

Volumes are not in it. Which ones a rental mounts is said by its rows alone (volumes/mounts.py): a
volume that the first placement made exists at the next one, and one may be deleted in between.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from kernel import sealed
from provisioner.contracts import PodOrder

_FIELD: Final = "order"
_TUPLES: Final = ("command", "ports", "ssh_public_keys", "volumes")


def seal_order(rental_id: UUID, order: PodOrder) -> bytes:
    """The order as it is stored, without its volumes."""
    plain = json.dumps(asdict(replace(order, volumes=()))).encode()
    return sealed.seal(plain, key=settings.GPUYARD_SEALING_KEY, owner=str(rental_id), field=_FIELD)


def open_order(rental_id: UUID, stored: bytes) -> PodOrder:
    """The order as it was given; raises sealed.CannotOpen under another key.

    Fields that this version does not know any more are left out.
    """
    plain = sealed.unseal(
        bytes(stored), key=settings.GPUYARD_SEALING_KEY, owner=str(rental_id), field=_FIELD
    )
    data: dict[str, Any] = json.loads(plain)
    known = {field.name for field in fields(PodOrder)}
    given = {name: value for name, value in data.items() if name in known}
    given |= {name: tuple(given[name]) for name in _TUPLES if name in given}
    return PodOrder(**given)
