"""What an order costs, from a price per GPU-hour. Pure; integers in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kernel.money import CURRENCY, format_micro

BASIS_POINTS: Final = 10_000
SECONDS_PER_HOUR: Final = 3600
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
    share = 0 if owned else total * (BASIS_POINTS - fee_bps) // BASIS_POINTS
    return Price(per_gpu_micro_h, gpus, total, share)


def components(price: Price, *, disk_gib: int) -> list[dict[str, Any]]:
    """The lines of a quote; they sum to its total."""
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
            "kind": "traffic",
            "text": f"Traffic, included up to a fair use of {FAIR_USE_TIB} TiB per month",
            "quantity": None,
            "unit_per_hour": zero,
            "per_hour": zero,
            "currency": CURRENCY,
        },
    ]


TRAFFIC: Final[dict[str, Any]] = {
    "included": True,
    "metered": False,
    "fair_use_tib_per_month": FAIR_USE_TIB,
}
TAX: Final[dict[str, Any]] = {
    "included": False,
    "tax_point": "top_up",
    "text": "Prices exclude tax. Tax that applies is added when credit is bought or an invoice "
    "is issued, never while the meter runs.",
}
