"""Volumes of a rental: from what was ordered to what its pods mount. Later starts: later.py.

A mount names a volume of the organization, or a size: then the volume is made where the cards are
found, in the same transaction as everything else of the rental.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from kernel.errors import InvalidRequest, Refusal
from kernel.ids import new_id, public
from kernel.money import format_micro
from marketplace.accounts.access import Principal, get_visible
from marketplace.models import Offer, Rental, RentalVolume, Volume
from marketplace.volumes import keep, metering, quota
from marketplace.volumes.place import Place, place_of
from provisioner import facade as provisioner
from provisioner.contracts import VolumeMount

MAX_NEW_GIB = 64 * 1024


@dataclass(frozen=True)
class VolumeOrder:
    """One entry of an order's ``volumes``: exactly one of volume (an id) and size_gib."""

    mount: str
    volume: str | None = None
    size_gib: int | None = None
    name: str = ""
    read_only: bool = False


@dataclass(frozen=True)
class Mounts:
    """The same, looked up: what the pod mounts, where that binds it to, names for new volumes."""

    mounts: tuple[VolumeMount, ...] = ()
    place: Place = field(default_factory=Place)
    names: tuple[str, ...] = ()

    def admit(self, offer: Offer) -> None:
        """Raise InvalidRequest when a quoted offer is not where the volumes are or can be."""
        if not self.place.admits(offer):
            why = (
                "the quoted offer is not in the data centre of these volumes"
                if self.place.cluster_ids
                else "the quoted offer has no storage for volumes"
            )
            raise InvalidRequest({"volumes": [why]})


def mistakes(orders: Sequence[VolumeOrder]) -> list[tuple[str, str]]:
    """What is wrong with the entries themselves, as (field, message)."""
    found = [
        ("volumes", message)
        for message in provisioner.mount_problems([order.mount for order in orders])
    ]
    for number, order in enumerate(orders):
        name = f"volumes.{number}"
        if (order.volume is None) == (order.size_gib is None):
            found.append((name, "give either volume, an id, or size_gib for a new one"))
        if order.size_gib is not None and not 1 <= order.size_gib <= MAX_NEW_GIB:
            found.append((f"{name}.size_gib", f"from 1 to {MAX_NEW_GIB} GiB"))
    named = [order.volume for order in orders if order.volume is not None]
    if len(set(named)) != len(named):
        found.append(("volumes", "a volume is mounted once"))
    return found


def look_up(acting: Principal, orders: Sequence[VolumeOrder]) -> Mounts:
    """The entries as mounts; reads only, the reservation decides.

    Raises NotFound, InvalidRequest, Refusal volume_in_use.
    """
    mounts, names, ids = [], [], []
    for order in orders:
        if order.volume is not None:
            key = get_visible(Volume, acting, order.volume).id
            ids.append(key)
            mounts.append(VolumeMount(key, order.mount, order.read_only))
        else:
            size = order.size_gib or 0
            mounts.append(VolumeMount(new_id(), order.mount, order.read_only, size))
        names.append(order.name)
    views = provisioner.volumes(ids=ids)
    for view in views:
        if view.rental_ref is not None:
            raise Refusal(
                "volume_in_use",
                "Another rental has a volume of this order. Nothing was rented. End or stop that "
                "rental first, or leave the volume out.",
                volume=public("volume", view.id),
                rental=public("rental", view.rental_ref),
            )
    place = place_of(views, needs_storage=any(mount.create_gib for mount in mounts))
    return Mounts(tuple(mounts), place, tuple(names))


def record(acting: Principal, rental: Rental, wanted: Mounts) -> None:
    """Write down the rental's mounts and the new volumes, in the rental's own transaction.

    The last thing in it: takes the quota's lock. Raises quota_exceeded, insufficient_funds.
    """
    made = False
    for mount, name in zip(wanted.mounts, wanted.names, strict=True):
        if mount.create_gib:
            made = True
            volume = keep.record(
                acting=acting,
                volume_id=mount.volume_id,
                datacenter=rental.offer.datacenter,
                name=name or mount.path.rsplit("/", 1)[-1],
                size_gib=mount.create_gib,
                project=rental.project,
                price_micro_gib_month=_quoted(rental),
            )
            metering.begin(volume)
        RentalVolume.objects.create(
            rental=rental,
            volume_id=mount.volume_id,
            mount=mount.path,
            read_only=mount.read_only,
        )
    if made:
        quota.check(rental.organization)


def _quoted(rental: Rental) -> int | None:
    """The price of a GiB and month, where the quote of the rental named a volume."""
    quote = rental.quote
    return quote.disk_price_micro_gib_month if quote is not None and quote.volume_gib else None


def describe(rentals: Sequence[Rental]) -> dict[UUID, list[dict[str, Any]]]:
    """Rental's id -> its mounts as the API shows them; a query for all mounts, one for prices."""
    shown: dict[UUID, list[dict[str, Any]]] = {rental.id: [] for rental in rentals}
    found = RentalVolume.objects.filter(rental__in=rentals).select_related("volume")
    rows = list(found.order_by("rental_id", "mount"))
    costs = metering.running({row.volume_id for row in rows}) if rows else {}
    for row in rows:
        shown[row.rental_id].append(
            {
                "volume": row.volume.public_id,
                "name": row.volume.name,
                "mount": row.mount,
                "read_only": row.read_only,
                "size_gib": row.volume.size_gib,
                "per_hour": format_micro(costs.get(row.volume_id, 0)),
            }
        )
    return shown
