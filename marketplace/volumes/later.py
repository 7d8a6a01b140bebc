"""Volumes at the later placements of a rental: a start, a retry, a failover, its turn in the queue.

The rows that say what a rental mounts are the only source. Its sealed order could not be: a volume
that the first placement made exists at the next one, and one may be enlarged or deleted in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext_noop as _

from kernel.errors import InvalidRequest
from marketplace.models import RentalVolume
from marketplace.volumes.mounts import Mounts
from marketplace.volumes.place import Place, place_of
from provisioner import facade as provisioner
from provisioner.contracts import VolumeMount, VolumeState, VolumeView

_UNUSABLE: Final = frozenset({VolumeState.DELETING, VolumeState.DELETED, VolumeState.LOST})

# For queries over rentals: whether it mounts any.
HAS_VOLUMES: Final = Exists(RentalVolume.objects.filter(rental=OuterRef("pk")))


class Unmountable(Exception):
    """The rental's volumes cannot be mounted any more; says which and why, without a full stop."""


def again(rental_id: UUID) -> Mounts:
    """What another placement of the rental mounts, and where that binds it to.

    Raises Unmountable. Whether another machine has one of them is for the reservation to see.
    """
    rows = RentalVolume.objects.filter(rental_id=rental_id).select_related("volume")
    mounts = []
    for row in rows.order_by("mount"):
        mounts.append(VolumeMount(row.volume_id, row.mount, row.read_only))
        if row.volume.removed_at is not None:
            raise Unmountable(f"its volume {row.volume.name} ({row.volume.public_id}) was deleted")
    place = _place(provisioner.volumes(ids=[mount.volume_id for mount in mounts]))
    return Mounts(tuple(mounts), place, ("",) * len(mounts))


def places(rental_ids: Iterable[UUID]) -> dict[UUID, Place | None]:
    """By rental, for those that mount volumes: where they can be placed; None: nowhere."""
    rows = RentalVolume.objects.filter(rental_id__in=list(rental_ids))
    held: dict[UUID, list[UUID]] = {}
    for rental, volume in rows.values_list("rental_id", "volume_id"):
        held.setdefault(rental, []).append(volume)
    if not held:
        return {}
    views = {view.id: view for view in provisioner.volumes(ids=_all(held.values()))}
    found: dict[UUID, Place | None] = {}
    for rental, ids in held.items():
        try:
            found[rental] = _place([views[key] for key in ids if key in views])
        except Unmountable:
            found[rental] = None
    return found


def tie(rental_id: UUID, *, absent: bool) -> str:
    """Why its volumes keep a rental that lost its machine from another host; "" if they do not.

    ``absent``: the machine was observed gone. Where its lease ran out unseen the volumes stay
    attached to it: its cluster would have to say that nothing writes to them any more, and it is
    dark, which is also the only cluster that they could be mounted in.
    """
    found = places([rental_id])
    if rental_id not in found:
        return ""
    if not absent:
        return _(
            "Its volumes are in that data centre, so it cannot go on elsewhere. Once the data "
            "centre answers again and nothing of the machine is left, it can be started there."
        )
    place = found[rental_id]
    if place is None or place.node_ids:
        return _("Its volumes are on the disks of that machine, so no other host can take it.")
    return ""


def _place(views: Sequence[VolumeView]) -> Place:
    for view in views:
        if view.state in _UNUSABLE:
            raise Unmountable(f"one of its volumes is {view.state.value}")
    try:
        return place_of(views)
    except InvalidRequest as error:
        (why,) = error.extra["errors"]["volumes"]
        raise Unmountable(f"its volumes cannot be mounted together: {why}") from error


def _all(groups: Iterable[list[UUID]]) -> list[UUID]:
    return sorted({key for group in groups for key in group})
