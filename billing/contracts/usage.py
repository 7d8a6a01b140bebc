"""What an organization's use cost, row by row and summed. Amounts in micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class CostCategory(StrEnum):
    """The words of FOCUS (FinOps Open Cost and Usage Specification) for ChargeCategory."""

    USAGE = "Usage"
    CREDIT = "Credit"
    ADJUSTMENT = "Adjustment"
    TAX = "Tax"


class CostKey(StrEnum):
    """What totals can be asked by."""

    RENTAL = "rental"
    ACCELERATOR = "accelerator"
    DAY = "day"


@dataclass(frozen=True)
class CostRow:
    """One usage line, or one other transaction that changed what the organization's use costs.

    cost_micro is what it paid, less what it got: negative for a credit. list_micro is the price of
    the window before what the platform bore. Of a transaction that is no use, seconds, gpus and
    price are None and from_at = to_at is when it was posted.
    """

    txn_id: UUID
    kind: str
    category: CostCategory | None  # None: no cost, only the tax on it
    charge_id: UUID | None
    meter_ref: UUID | None  # of a rental's cards or a disk; None: no use
    rental_ref: UUID | None  # None for disks and what belongs to no rental
    seq: int | None
    from_at: datetime
    to_at: datetime
    seconds: int | None
    gpus: int | None  # a disk's GiB
    price_micro_h: int | None  # of all GPUs
    accelerator: str | None
    text: str
    list_micro: int
    cost_micro: int
    tax_micro: int
    invoice: str | None  # the number of the invoice that carries it


@dataclass(frozen=True)
class CostTotal:
    """key: the UUID of a rental, a card type, or a day (UTC); None for what belongs to none."""

    key: str | None
    gpu_seconds: int
    usage_micro: int
    credit_micro: int  # credits and adjustments, negative when in the renter's favour
    tax_micro: int


@dataclass(frozen=True)
class UseTotal:
    """What one owner's cards of one type were charged, before tax and before what was given back.

    overrun_micro is the part of amount_micro that nobody could pay and the platform bore.
    """

    provider_ref: UUID
    accelerator: str
    gpu_seconds: int
    amount_micro: int
    provider_micro: int
    overrun_micro: int


@dataclass(frozen=True)
class UsedMeter:
    """What a meter counted: by this an owner's share of it is decided. accelerator of disks: not
    a card's."""

    provider_ref: UUID
    kind: str  # contracts.meters.MeterKind
    accelerator: str
    price_micro_h: int


@dataclass(frozen=True)
class ShareIf:
    """An owner's use of a time, before what was given back: its share as booked, and as it had been
    with another rate."""

    provider_ref: UUID
    amount_micro: int
    provider_micro: int
    provider_if_micro: int
