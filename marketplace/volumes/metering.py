"""What volumes cost: one meter per size, from the price of their making to the last charged second.

The provisioner says since when a disk is there and proven, billing charges; the row between the two
carries the reference that both know. Its interval opens and closes by what was seen, never here.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction

from billing import facade as billing
from billing.contracts import PriceTerms
from billing.contracts.meters import MeterKind
from kernel.clock import now
from kernel.money import CURRENCY, format_micro
from kernel.turns import each
from marketplace.catalog.price import disk_price
from marketplace.models import Volume, VolumeMeter
from provisioner.facade import disks

# Meters per run: each is a transaction of its own.
_BATCH = 1000


def begin(volume: Volume) -> None:
    """Meter the volume at its present size, and hold the first hour; for a new or larger one.

    In the transaction that stores the wish, behind the provisioner's. Nothing for a free volume.
    Raises Refusal insufficient_funds.
    """
    if not volume.price_micro_gib_month:
        return
    price = disk_price(
        micro_gib_month=volume.price_micro_gib_month,
        gib=volume.size_gib,
        share_bps=volume.share_bps,
    )
    meter = VolumeMeter.objects.create(
        volume=volume, size_gib=volume.size_gib, price_micro_h=price.total_micro_h
    )
    disks.meter(volume_id=volume.id, ref=meter.id, gib=volume.size_gib)
    place = volume.datacenter
    monthly = format_micro(volume.price_micro_gib_month)
    terms = PriceTerms(
        kind=MeterKind.DISK,
        currency=CURRENCY,
        gpus=volume.size_gib,
        price_micro_h=price.total_micro_h,
        provider_micro_h=price.provider_micro_h,
        provider_ref=place.provider_id,
        accelerator=f"Volumes at {monthly} {CURRENCY} per GiB and month",
        description=f"Volume {volume.name}, {volume.size_gib} GiB, {place.name}",
    )
    billing.hold(org_ref=volume.organization_id, rental_ref=meter.id, terms=terms)


def follow(limit: int = _BATCH) -> int:
    """Let meters run and rest as the disks do; how many moved."""
    return sum(each("volume_meter", disks.moved(limit=limit), _apply))


def _apply(ref: UUID) -> bool:
    with transaction.atomic(durable=True):
        disk = disks.take(ref=ref)
        if disk is None:
            return False
        meter = VolumeMeter.objects.select_for_update().get(id=ref)
        meter.running = disk.running_since is not None
        if disk.over and meter.over_at is None:
            meter.over_at = now()
        meter.save(update_fields=["running", "over_at"])
        billing.meter_stopped(rental_ref=ref)  # also before a new start: its beginning is another
        if disk.running_since is not None:
            billing.meter_started(rental_ref=ref, at=disk.running_since)
        return True


def settle(limit: int = _BATCH) -> int:
    """Give back the holds of sizes that are over and charged to their end; how many."""
    over = VolumeMeter.objects.filter(over_at__isnull=False, settled_at=None).order_by("id")
    refs = list(over.values_list("id", flat=True)[:limit])
    return sum(each("volume_settle", refs, _settle_one))


def _settle_one(ref: UUID) -> bool:
    with transaction.atomic(durable=True):
        meter = VolumeMeter.objects.select_for_update().get(id=ref)
        if meter.settled_at is not None or not disks.is_settled(ref=ref):
            return False  # an ended meter takes no more seconds: none may be lost here
        billing.end_rental(rental_ref=ref)
        meter.settled_at = now()
        meter.save(update_fields=["settled_at"])
        return True


def running(volume_ids: Iterable[UUID]) -> dict[UUID, int]:
    """By volume, for those that cost something now: micro-units per hour."""
    rows = VolumeMeter.objects.filter(volume__in=list(volume_ids), running=True)
    return dict(rows.values_list("volume_id", "price_micro_h"))


def spent(volume_ids: Iterable[UUID]) -> dict[UUID, int]:
    """By volume: what was charged for it so far, at all its sizes."""
    owners = dict(
        VolumeMeter.objects.filter(volume__in=list(volume_ids)).values_list("id", "volume_id")
    )
    found: dict[UUID, int] = {}
    for ref, micro in billing.spent(rental_refs=list(owners)).items():
        found[owners[ref]] = found.get(owners[ref], 0) + micro
    return found
