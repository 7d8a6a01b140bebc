"""What an order costs, from a price per GPU-hour. Pure; integers in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kernel.money import CURRENCY, format_micro

BASIS_POINTS: Final = 10_000
SECONDS_PER_HOUR: Final = 3600
# What a month has on average, 365 days / 12. A price per month is divided by it, so that all months
# cost the same by the hour.
HOURS_PER_MONTH: Final = 730
# Fair use of the included traffic, per rental and month. Above it we talk, we do not bill: no
# meter is claimed. Lower would hurt ordinary data sets, higher would invite a file mirror.
FAIR_USE_TIB: Final = 10


@dataclass(frozen=True)
class Price:
    """The snapshot of one order: what the renter pays per hour and the owner's share of it."""

    per_gpu_micro_h: int
    gpus: int
    total_micro_h: int
    provider_micro_h: int


def order_price(*, per_gpu_micro_h: int, gpus: int, fee_bps: int, owned: bool) -> Price:
    """The price of ``gpus`` cards; the owner's share is rounded down, so renter = share + fee.

    Cards of the platform itself pay nothing away: the whole price is revenue.
    """
    total = per_gpu_micro_h * gpus
    share = total * share_bps(fee_bps=fee_bps, owned=owned) // BASIS_POINTS
    return Price(per_gpu_micro_h, gpus, total, share)


def share_bps(*, fee_bps: int, owned: bool) -> int:
    """The owner's part in ten thousandths; the platform's own disks and cards pay none away."""
    return 0 if owned else BASIS_POINTS - fee_bps


@dataclass(frozen=True)
class DiskPrice:
    """What a volume costs per hour, and the owner's share of it."""

    total_micro_h: int
    provider_micro_h: int


def disk_price(*, micro_gib_month: int, gib: int, share_bps: int) -> DiskPrice:
    """From the price of a GiB and month, rounded down once for the whole disk."""
    total = micro_gib_month * gib // HOURS_PER_MONTH
    return DiskPrice(total, total * share_bps // BASIS_POINTS)


def components(
    price: Price, *, disk_gib: int, volume_gib: int = 0, micro_gib_month: int = 0
) -> list[dict[str, Any]]:
    """The lines of a quote; they sum to its total. ``volume_gib``: of a new volume; 0: none."""
    zero = format_micro(0)
    return [
        {
            "kind": "gpu",
            "text": f"{price.gpus} GPU at {format_micro(price.per_gpu_micro_h)} per GPU-hour",
            "quantity": price.gpus,
            "unit_per_hour": format_micro(price.per_gpu_micro_h),
            "per_hour": format_micro(price.total_micro_h),
            "currency": CURRENCY,
        },
        {
            "kind": "disk",
            "text": f"{disk_gib} GiB local disk, included with the GPUs",
            "quantity": disk_gib,
            "unit_per_hour": zero,
            "per_hour": zero,
            "currency": CURRENCY,
        },
        {
            "kind": "volume",
            "text": _volume_text(volume_gib, micro_gib_month),
            "quantity": volume_gib,
            "unit_per_hour": format_micro(micro_gib_month // HOURS_PER_MONTH),
            "per_hour": format_micro(volume_micro_h(volume_gib, micro_gib_month)),
            "currency": CURRENCY,
        },
        {
            "kind": "traffic",
            "text": f"Traffic, included up to a fair use of {FAIR_USE_TIB} TiB per month",
            "quantity": None,
            "unit_per_hour": zero,
            "per_hour": zero,
            "currency": CURRENCY,
        },
    ]


def volume_micro_h(gib: int, micro_gib_month: int) -> int:
    """What a volume costs per hour, running or stopped."""
    return disk_price(micro_gib_month=micro_gib_month, gib=gib, share_bps=0).total_micro_h


def _volume_text(gib: int, micro_gib_month: int) -> str:
    price = f"{format_micro(micro_gib_month)} {CURRENCY} per GiB and month of 730 hours"
    if not micro_gib_month:
        price = "free here"
    if not gib:
        return f"No new volume asked for; one is {price}, running or stopped"
    return f"{gib} GiB new volume: {price}, running or stopped"


TRAFFIC: Final[dict[str, Any]] = {
    "included": True,
    "metered": False,
    "fair_use_tib_per_month": FAIR_USE_TIB,
}
