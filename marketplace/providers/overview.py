"""What an owner's home shows, collected: what needs it, its cards, its money, how placements went.

A fixed number of statements, however many clusters, offers and cards there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from django.db.models import Q

from billing.contracts.meters import MeterKind
from billing.contracts.payouts import AccountState
from billing.facade import payouts as billing
from kernel import clock
from kernel.errors import NotFound
from marketplace.accounts.access import Principal, visible
from marketplace.models import DataCenter, Maintenance, Offer, Provider
from marketplace.providers import attention, card_costs
from marketplace.providers.earned import By, EarnedRow, earned, occupancy
from marketplace.providers.onboard import own_provider
from provisioner.contracts import ClusterView
from provisioner.contracts.fleet import Seats
from provisioner.facade import access, fleet
from provisioner.facade import reliability as records

DAYS: Final = 30
_SECONDS: Final = 3600


@dataclass(frozen=True)
class Earned:
    """Over some days. share: of cards and disks. per_gpu_hour: what a rented GPU-hour brought,
    disks left out; None where none was."""

    share_micro: int
    of_cards_micro: int
    gpu_seconds: int
    there_seconds: int

    @property
    def per_gpu_hour_micro(self) -> int | None:
        return self.of_cards_micro * _SECONDS // self.gpu_seconds if self.gpu_seconds else None

    @property
    def occupancy(self) -> Decimal | None:
        return occupancy(self.gpu_seconds, self.there_seconds)


@dataclass(frozen=True)
class Starts:
    """Of placements in thirty days that were the host's to keep: how many, how many started."""

    sample: int
    started: int


@dataclass(frozen=True)
class Overview:
    """per_day: an owner's share of each of the last thirty days, cards and disks together."""

    needs: tuple[attention.Need, ...]
    seats: Seats
    today: Earned
    month: Earned
    thirty: Earned
    per_day: tuple[tuple[date, int], ...]
    starts: Starts
    offers: int


def overview(*, acting: Principal, clusters: Sequence[ClusterView], fee_bps: int) -> Overview:
    """Of the acting owner, whose clusters these are; NotFound for whoever never applied."""
    provider, at = own_provider(acting), clock.now()
    today = at.astimezone(UTC).date()
    since = today - timedelta(days=DAYS - 1)
    first = min(since, today.replace(day=1))
    rows = earned(
        provider=provider,
        from_at=datetime.combine(first, time(), UTC),
        to_at=at,
        by=frozenset({By.DAY}),
    )
    offers = _offers(acting)
    days = [since + timedelta(days=number) for number in range(DAYS)]
    return Overview(
        needs=tuple(needs(acting=acting, clusters=clusters, fee_bps=fee_bps, offers=offers)),
        seats=fleet.seats(provider_ref=provider.id),
        today=_sum(row for row in rows if row.day == today),
        month=_sum(row for row in rows if row.day and row.day >= today.replace(day=1)),
        thirty=_sum(row for row in rows if row.day and row.day >= since),
        per_day=tuple(
            (day, _sum(row for row in rows if row.day == day).share_micro) for day in days
        ),
        starts=_starts([offer.group_id for offer in offers]),
        offers=len(offers),
    )


def needs(
    *,
    acting: Principal,
    clusters: Sequence[ClusterView],
    fee_bps: int,
    offers: Sequence[Offer] | None = None,
) -> list[attention.Need]:
    """What needs the acting owner now. offers: where they are loaded already."""
    provider = own_provider(acting)
    own = _offers(acting) if offers is None else offers
    approved = provider.state == Provider.State.APPROVED
    return attention.needs(
        attention.Facts(
            at=clock.now(),
            provider_state=provider.state,
            provider_reason=provider.reason,
            has_place=visible(DataCenter, acting).exists(),
            has_gateway=access.has_gateway(),
            clusters=tuple(clusters),
            quarantined=tuple(fleet.quarantined(provider_ref=provider.id)),
            planned=tuple(_planned(acting, clusters)),
            drafts=sum(approved and offer.state == Offer.State.DRAFT for offer in own),
            below_floor=_below_floor(acting, own, fee_bps),
            account=_account(provider),
        )
    )


def _offers(acting: Principal) -> list[Offer]:
    rows = visible(Offer, acting).exclude(state=Offer.State.ENDED)
    return list(rows.select_related("group").order_by("id"))


def _below_floor(acting: Principal, offers: Collection[Offer], fee_bps: int) -> int:
    kept = card_costs.saved(acting)
    return sum(
        card_costs.priced(cost.given, fee_bps, offer.price_micro_h).below_floor
        for offer in offers
        if offer.state == Offer.State.ACTIVE and (cost := kept.get(offer.group.accelerator))
    )


def _planned(acting: Principal, clusters: Sequence[ClusterView]) -> list[attention.Planned]:
    """The first ones that are not over; those of clusters that are gone are nobody's concern."""
    names = {cluster.id: cluster.name for cluster in clusters}
    at = clock.now()
    rows = visible(Maintenance, acting).filter(
        Q(ends_at=None) | Q(ends_at__gt=at),
        cluster_ref__in=names,
        withdrawn_at=None,
        starts_at__lte=at + attention.SOON,
    )
    return [
        attention.Planned(
            id=row.public_id,
            where=", ".join(filter(None, (names[row.cluster_ref], row.node_name))),
            starts_at=row.starts_at,
            ends_at=row.ends_at,
        )
        for row in rows.order_by("starts_at", "id")[:20]
    ]


def _account(provider: Provider) -> AccountState | None:
    try:
        return billing.payout_account(provider_ref=provider.id).state
    except NotFound:
        return None


def _sum(rows: Iterable[EarnedRow]) -> Earned:
    """Money of cards and disks, time of cards alone."""
    share = of_cards = used = there = 0
    for row in rows:
        share += row.share_micro
        if row.kind == MeterKind.GPU.value:
            of_cards += row.share_micro
            used += row.unit_seconds
            there += row.there_seconds or 0
    return Earned(share, of_cards, used, there)


def _starts(group_ids: Collection[UUID]) -> Starts:
    found = records.reliabilities(group_ids=group_ids).values()
    return Starts(sum(one.sample for one in found), sum(one.started for one in found))
