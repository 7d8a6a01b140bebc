"""What each card of a provider earned: billing's shares, divided by who had which cards.

Billing knows what was charged for a proven stretch and the provisioner which cards it was proven
on; neither knows the other, so the two statements are joined here, as columns. The sum of the rows
is the provider's part of that use in the ledger, to the micro-unit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from billing.contracts.meters import MeterKind
from billing.facade import payouts as billing
from kernel.errors import InvalidRequest
from marketplace.models import Offer, Provider
from provisioner.contracts.cards import CardSum, Stretches
from provisioner.facade import cards as provisioner

# A thousand cards for twenty days. More is no answer that anybody reads at once.
MOST_ROWS: Final = 20_000


class By(StrEnum):
    """What rows are made for."""

    DAY = "day"
    GPU = "gpu"
    OFFER = "offer"


@dataclass(frozen=True)
class EarnedRow:
    """None: not asked for, or of no card. unit_seconds: of GPUs, or of GiB for disks."""

    day: date | None
    kind: str  # gpu, disk
    offer_id: UUID | None
    accelerator: str | None
    cluster_id: UUID | None
    node_id: UUID | None
    node_name: str | None
    slot_id: UUID | None
    number: int | None
    unit_seconds: int
    there_seconds: int | None
    share_micro: int

    @property
    def occupancy(self) -> Decimal | None:
        """The part of the time in which the cards were there that they earned."""
        return occupancy(self.unit_seconds, self.there_seconds or 0)


def occupancy(earning: int, there: int) -> Decimal | None:
    """Seconds by seconds, cut to four places; None where nothing was there."""
    if not there:
        return None
    return (Decimal(earning) / there).quantize(Decimal("0.0001"), rounding=ROUND_DOWN)


def earned(
    *, provider: Provider, from_at: datetime, to_at: datetime, by: Set[By]
) -> list[EarnedRow]:
    """Rows by day (UTC, by use), card or offer, oldest first; cards that earned nothing as well.
    InvalidRequest where that is more than anybody reads."""
    found = billing.earned_stretches(provider_ref=provider.id, from_at=from_at, to_at=to_at)
    sums = provisioner.apportion(
        provider_ref=provider.id,
        stretches=Stretches(
            interval_ids=found.source_refs,
            days=found.days,
            gpus=found.gpus,
            seconds=found.seconds,
            amounts=found.shares_micro,
        ),
        from_at=from_at,
        to_at=to_at,
        by_day=By.DAY in by,
        by_card=By.GPU in by,
        limit=MOST_ROWS + 1,
    )
    if len(sums) > MOST_ROWS:
        raise InvalidRequest({"from": [f"that is more than {MOST_ROWS} rows: ask for fewer days"]})
    rows = _of_cards(provider, sums)
    if not by & {By.GPU, By.OFFER}:
        rows = _by_day(rows)
    disks = _of_disks(provider, from_at, to_at, by_day=By.DAY in by)
    return sorted([*rows, *disks], key=lambda row: row.day or date.min)


def _of_cards(provider: Provider, sums: Iterable[CardSum]) -> list[EarnedRow]:
    offers: dict[UUID | None, tuple[UUID | None, str | None]] = {
        group: (offer, accelerator)
        for group, offer, accelerator in Offer.objects.filter(provider=provider).values_list(
            "group_id", "id", "group__accelerator"
        )
    }
    rows = []
    for one in sums:
        offer, accelerator = offers.get(one.group_id, (None, None))
        rows.append(
            EarnedRow(
                day=one.day,
                kind=MeterKind.GPU.value,
                offer_id=offer,
                accelerator=accelerator,
                cluster_id=one.cluster_id,
                node_id=one.node_id,
                node_name=one.node,
                slot_id=one.slot_id,
                number=one.number,
                unit_seconds=one.gpu_seconds,
                there_seconds=one.there_seconds,
                share_micro=one.amount,
            )
        )
    return rows


def _by_day(rows: Iterable[EarnedRow]) -> list[EarnedRow]:
    together: dict[date | None, list[EarnedRow]] = defaultdict(list)
    for row in rows:
        together[row.day].append(row)
    return [
        replace(
            same[0],
            offer_id=None,
            accelerator=None,
            unit_seconds=sum(row.unit_seconds for row in same),
            there_seconds=sum(row.there_seconds or 0 for row in same),
            share_micro=sum(row.share_micro for row in same),
        )
        for same in together.values()
    ]


def _of_disks(
    provider: Provider, from_at: datetime, to_at: datetime, *, by_day: bool
) -> list[EarnedRow]:
    """Disks are no card's: rows of their own, so that all rows are all that was earned."""
    days = billing.earnings_days(provider_ref=provider.id, from_at=from_at, to_at=to_at)
    together: dict[date | None, list[int]] = defaultdict(lambda: [0, 0])
    for one in days:
        if one.kind == MeterKind.DISK:
            sums = together[one.day if by_day else None]
            sums[0] += one.unit_seconds
            sums[1] += one.share_micro
    none = (None,) * 7
    return [
        EarnedRow(day, MeterKind.DISK.value, *none, seconds, None, share)
        for day, (seconds, share) in together.items()
    ]
