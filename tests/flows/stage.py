"""The platform over one cluster in memory: every loop as beat would run it, and a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import lease as leasing
from marketplace.rentals import notice as noticing
from marketplace.rentals import outage as compensating
from marketplace.rentals import place as placing
from provisioner.instances.release import recycle
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, ClusterLoop, Node
from provisioner.reconcile import instance_loop, leases, observe, volume_loop
from tests.flows.cluster import FakeCluster
from tests.market import Renter, Supply, order

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Platform:
    """All loops over one cluster in memory, and a clock."""

    def __init__(self, supply: Supply) -> None:
        self.moment = NOON
        self.clusters: dict[UUID, FakeCluster] = {}
        self.cluster = self.add(supply.cluster)

    def add(self, cluster: Cluster) -> FakeCluster:
        """Another cluster, listed like the first."""
        present = NOON - timedelta(hours=1)
        ClusterLoop.objects.create(cluster=cluster, kind=ClusterLoop.Kind.OBSERVE, due_at=present)
        self.clusters[cluster.pk] = FakeCluster()
        return self.clusters[cluster.pk]

    def connect(self, cluster: Cluster) -> FakeCluster:
        return self.clusters[cluster.pk]

    def at(self, moment: datetime) -> None:
        self.moment = moment
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])

    def turn(self) -> None:
        """Every loop once, as beat would run them."""
        self.look_at_nodes()
        leasing.push()
        volume_loop.run(connect=self.connect)
        instance_loop.run(connect=self.connect)
        leases.run(connect=self.connect)
        observe.run(connect=self.connect)
        following.follow()
        charging.charge()
        charging.settle()
        charging.funds()
        compensating.compensate()
        noticing.announce()
        recycle()
        refresh()
        placing.place()

    def look_at_nodes(self) -> None:
        """As the inventory does for nodes that answer: their rows are the market's own."""
        up = [key for key, cluster in self.clusters.items() if not cluster.down]
        Node.objects.filter(cluster_id__in=up, ready=True).update(ready_at=self.moment)

    def until(self, moment: datetime, *, every: int = 20) -> None:
        """Turn the loops every so many seconds up to ``moment``; fewer than a proof is fresh."""
        while self.moment < moment:
            self.at(min(moment, self.moment + timedelta(seconds=every)))
            self.turn()


def rent(renter: Renter, supply: Supply, gpus: int = 2, **changes: Any) -> str:
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": gpus})[1]
    body = order(supply.offer, requirement=..., quote=quote["id"], **changes)
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    return str(rental["id"])


def show(renter: Renter, rental: str) -> dict[str, Any]:
    return dict(renter.call("GET", f"/rentals/{rental}")[1])


def act(renter: Renter, rental: str, action: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return renter.call("POST", f"/rentals/{rental}/actions", {"action": action, **more})
