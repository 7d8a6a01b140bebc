"""The world that every schedule starts from: two clusters on sale, three organizations with credit,
two machines that run.

Built once through the product's own code (inventory, full lists, publishing, top-ups, renting) and
then marked in the sandbox; a schedule begins by going back to the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from django.db import transaction

from marketplace.catalog import publish
from marketplace.catalog.query import OfferQuery
from marketplace.models import DataCenter, Offer, Provider, Rental
from marketplace.rentals import lease, start
from marketplace.rentals.follow import follow
from marketplace.rentals.order import RentOrder
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import instance_loop, leases, node_loop, observe
from tests.market import H100, USD, Renter, make_renter
from tests.simulation.cluster import SimCluster
from tests.simulation.port import Port, Weather
from tests.simulation.seeding import Clock

# Shortly before a full hour: every schedule may see one, at a moment that differs by its seed.
START = datetime(2026, 3, 1, 11, 58, 50, tzinfo=UTC)
NODES: tuple[tuple[tuple[str, int], ...], ...] = (
    (("north-1", 2), ("north-2", 2)),
    (("south-1", 4),),
)
REGIONS = ("north", "south")
IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
# Prime numbers of micro-units: every rounding shows.
PRICES = (1_999_993, 2_499_997)
# Plenty, some hours of one card, and one hour and a little.
CREDIT = (500 * USD, 12 * USD, 3 * USD)


@dataclass(frozen=True)
class World:
    """What schedules refer to. ``clusters``, ``machines`` and NODES are in the same order.

    ``rentals``: public ids of what runs, with their renters. ``built_at``: the clock then.
    """

    owner: Renter
    renters: tuple[Renter, ...]
    clusters: tuple[Cluster, ...]
    machines: tuple[SimCluster, ...]
    rentals: dict[str, Renter]
    built_at: datetime


def fresh_clusters(world: World) -> list[SimCluster]:
    """The clusters in memory as the tables know them at the mark."""
    clusters = _empty_clusters(world.built_at)
    for cluster, machines in zip(clusters, world.machines, strict=True):
        cluster.adopt(machines)
    return clusters


def _empty_clusters(start: datetime) -> list[SimCluster]:
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
    machines = _empty_clusters(START)
    for row, simulated in zip(clusters, machines, strict=True):
        simulated.advance(clock.now)  # its reaper beats once
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
    rentals = dict(_rent(renter) for renter in renters[:2])
    _until_running(clock, machines)
    lease.push()
    leases.run()
    return World(owner, renters, tuple(clusters), tuple(machines), rentals, clock.now)


def _rent(renter: Renter) -> tuple[str, Renter]:
    """One card in the first cluster, without an end."""
    order = RentOrder(
        requirement=OfferQuery(accelerator=(H100,), gpus=1, region=REGIONS[0]),
        image=IMAGE,
        ssh=False,
        no_limit=True,
    )
    made: list[str] = []

    def render(rental: Rental) -> tuple[int, dict[str, str]]:
        made.append(rental.public_id)
        return 202, {}

    start.rent(acting=renter.principal, order=order, claim=None, render=render)
    return made[0], renter


def _until_running(clock: Clock, machines: list[SimCluster]) -> None:
    for _ in range(10):
        clock.advance(timedelta(seconds=4))
        for cluster in machines:
            cluster.advance(clock.now)
        instance_loop.run()
        observe.run()
        follow()
        if not Rental.objects.exclude(state=Rental.State.RUNNING).exists():
            return
    raise RuntimeError("the first machines do not run: the world itself is broken")


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
