"""The world that every schedule starts from: two clusters on sale, three organizations with credit.

Built once through the product's own code (inventory, full lists, publishing, top-ups) and then
marked in the sandbox; a schedule begins by going back to the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from django.db import transaction

from marketplace.catalog import publish
from marketplace.models import DataCenter, Offer, Provider
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import node_loop, observe
from tests.market import USD, Renter, make_renter
from tests.simulation.cluster import SimCluster
from tests.simulation.port import Port, Weather
from tests.simulation.seeding import Clock

# Shortly before a full hour: every schedule may see one, at a moment that differs by its seed.
START = datetime(2026, 3, 1, 11, 56, 0, tzinfo=UTC)
NODES: tuple[tuple[tuple[str, int], ...], ...] = (
    (("north-1", 2), ("north-2", 2)),
    (("south-1", 4),),
)
REGIONS = ("north", "south")
# Prime numbers of micro-units: every rounding shows.
PRICES = (1_999_993, 2_499_997)
# Plenty, some hours of one card, and one hour and a little.
CREDIT = (500 * USD, 12 * USD, 3 * USD)


@dataclass(frozen=True)
class World:
    """What schedules refer to. ``clusters`` and NODES are in the same order."""

    renters: tuple[Renter, ...]
    clusters: tuple[Cluster, ...]
    owner: Renter


def fresh_clusters(start: datetime) -> list[SimCluster]:
    """The clusters in memory as the tables know them at the mark."""
    return [SimCluster(number, nodes, start) for number, nodes in enumerate(NODES)]


def build(clock: Clock, serving: dict[UUID, Port]) -> World:
    """``serving``: filled with what answers for each cluster, by its key, before it is called."""
    clock.set(START)
    owner = make_renter("Owner", credit=0)
    provider = Provider.objects.create(
        organization=owner.principal.org,
        state=Provider.State.APPROVED,
        ownership="partner",
        contact_email="owner@example.com",
    )
    places = [
        DataCenter.objects.create(provider=provider, name=region, region=region, country="DE")
        for region in REGIONS
    ]
    clusters = [_cluster(provider, place, START) for place in places]
    for row, simulated in zip(clusters, fresh_clusters(START), strict=True):
        serving[row.pk] = Port(simulated, Weather(), Random(0), lambda verb, what: None)
    node_loop.run()
    clock.advance(timedelta(seconds=1))
    observe.run()
    refresh()
    _sell(owner)
    refresh()
    renters = tuple(
        make_renter(f"Org {number}", credit=credit) for number, credit in enumerate(CREDIT)
    )
    return World(renters, tuple(clusters), owner)


def _cluster(provider: Provider, place: DataCenter, now: datetime) -> Cluster:
    row = Cluster.objects.create(
        name=f"cluster-{place.name}",
        provider_ref=provider.id,
        datacenter_ref=place.id,
        api_url="https://cluster.example.com:6443",
        ca_pem="",
        token_sealed=b"",
        token_renew_at=now + timedelta(days=10),
        state="connecting",
        state_since=now,
        created_at=now,
    )
    ClusterLoop.objects.bulk_create(
        ClusterLoop(cluster=row, kind=kind, due_at=now) for kind in ClusterLoop.Kind.values
    )
    return row


def _sell(owner: Renter) -> None:
    made = publish.sync_offers()
    if made != len(REGIONS):
        raise RuntimeError(f"{made} offers were drafted, {len(REGIONS)} groups were to be found")
    for offer in Offer.objects.order_by("region"):
        with transaction.atomic():
            publish.set_offer(
                acting=owner.principal,
                offer_id=offer.public_id,
                price_micro_h=PRICES[REGIONS.index(offer.region)],
                state="active",
            )
