"""An offer as the market sees it, for its owner: shown or not and why, its place by price, how its
placements ended. Reads only; the reasons are worked out in why.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Count, Q

from kernel.clock import now
from marketplace.accounts import switches
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.catalog.market import MarketView, asked
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.search import is_open, with_stock
from marketplace.catalog.stock import fitting
from marketplace.catalog.why import Effect, Facts, Reason, reasons
from marketplace.models import Maintenance, Offer
from provisioner import facade as provisioner
from provisioner.contracts import ClusterView
from provisioner.contracts.reliability import Placement, ReliabilityView
from provisioner.facade import access
from provisioner.facade import reliability as records

_LAST: Final = 10


@dataclass(frozen=True)
class Rank:
    """Among offers of the same card that take an order of one of them now, itself left out.

    position: where it stands in the catalogue's order by price; None while it is not among them.
    """

    position: int | None
    comparable: int
    cheaper: int
    equal: int


@dataclass(frozen=True)
class VisibilityView:
    """shown: it is in the catalogue; rentable: an order for its least number of cards fits now."""

    offer: Offer
    shown: bool
    rentable: bool
    reasons: tuple[Reason, ...]
    rank: Rank
    market: MarketView | None
    reliability: ReliabilityView
    placements: tuple[Placement, ...]


def visibility(*, acting: Principal, offer_id: str) -> VisibilityView:
    """Of an own offer, drafts included; NotFound."""
    offer = get_visible(with_stock(visible(Offer, acting)), acting, offer_id)
    market = asked(offer.group.accelerator, besides=acting.org.id)
    record = records.reliability(group_id=offer.group_id)
    rank = _rank(offer)
    found = reasons(_facts(acting, offer, rank, market, record))
    effects = {reason.effect for reason in found}
    shown = Effect.HIDES not in effects
    return VisibilityView(
        offer=offer,
        shown=shown,
        rentable=shown and Effect.FULL not in effects,
        reasons=tuple(found),
        rank=rank,
        market=market,
        reliability=record,
        placements=tuple(records.placements(group_id=offer.group_id, limit=_LAST)),
    )


def _rank(offer: Offer) -> Rank:
    price = offer.price_micro_h
    query = OfferQuery(accelerator=(offer.group.accelerator,), gpus=1)
    others = ~Q(id=offer.id)
    same = others & Q(price_micro_h=price)
    found = (
        fitting(query)
        .order_by()
        .aggregate(
            all=Count("id", filter=others),
            cheaper=Count("id", filter=others & Q(price_micro_h__lt=price)),
            equal=Count("id", filter=same),
            before=Count("id", filter=same & Q(id__lt=offer.id)),
            itself=Count("id", filter=Q(id=offer.id)),
        )
    )
    place = found["cheaper"] + found["before"] + 1 if found["itself"] else None
    return Rank(place, found["all"], found["cheaper"], found["equal"])


def _facts(
    acting: Principal,
    offer: Offer,
    rank: Rank,
    market: MarketView | None,
    record: ReliabilityView,
) -> Facts:
    group = offer.group
    cluster = _cluster(offer)
    everywhere = switches.note_of(switches.STOP_RENTALS) is not None
    return Facts(
        provider_state=offer.provider.state,
        offer_state=offer.state,
        price_micro_h=offer.price_micro_h,
        switched_off=everywhere or group.cluster_id in switches.stopped_clusters(),
        cluster=cluster.name,
        cluster_state=cluster.state.value,
        cluster_detail=cluster.detail,
        preflight=cluster.preflight.value,
        preflight_sells=cluster.preflight_sells,
        at=now(),
        ends_at=offer.ends_at,
        opens_at=offer.opens_at,
        closes_at=offer.closes_at,
        is_open=is_open(offer),
        maintenance_from=_maintenance(acting, offer),
        slots_total=group.slots_total,
        slots_free=group.slots_free,
        largest_block=group.largest_block,
        min_gpus=offer.min_gpus,
        unsold=_unsold(offer),
        has_gateway=access.has_gateway(),
        has_relay=group.has_relay,
        storage=group.storage_domain,
        storage_reason=cluster.storage_reason,
        interruptible=offer.interruptible_price_micro_h is not None,
        cheaper=rank.cheaper,
        comparable=rank.comparable,
        p90_micro=market.p90_micro if market else None,
        reliability_bp=record.value_bp,
        sample=record.sample,
        least_sample=record.least_sample,
    )


def _cluster(offer: Offer) -> ClusterView:
    (found,) = provisioner.clusters(ids=[offer.group.cluster_id])
    return found


def _unsold(offer: Offer) -> list[tuple[str, str]]:
    """Nodes of the cluster with such cards, or whose cards nobody could tell, that are not sold."""
    return [
        (node.name, node.reason or "quarantined")
        for node in provisioner.nodes(cluster_id=offer.group.cluster_id)
        if (node.reason or node.quarantined_at) and node.accelerator == offer.group.accelerator
    ]


def _maintenance(acting: Principal, offer: Offer) -> datetime | None:
    """The beginning of the first maintenance of all of the cluster that is not over."""
    rows = visible(Maintenance, acting).filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=now()),
        cluster_ref=offer.group.cluster_id,
        node_ref=None,
        withdrawn_at=None,
    )
    first = rows.order_by("starts_at").first()
    return first.starts_at if first else None
