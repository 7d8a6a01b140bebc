"""HTTP -> reconcile -> follow -> bill: the main job through every area's own code.

Only the cluster's API is replaced; the provisioner's loops, the follower, the charger and the
ledger are the real ones, on PostgreSQL, with the platform's clock set by the test.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from billing import facade as billing
from kernel.ids import parse
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from provisioner.instances.release import recycle
from provisioner.inventory.summary import refresh
from provisioner.models import ClusterLoop, Hold, Slot
from provisioner.reconcile import instance_loop, observe
from tests.flows.cluster import FakeCluster
from tests.market import Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Platform:
    """All loops over one cluster in memory, and a clock."""

    def __init__(self, supply: Supply) -> None:
        self.cluster = FakeCluster()
        self.moment = NOON
        present = NOON - timedelta(hours=1)
        ClusterLoop.objects.create(
            cluster=supply.cluster, kind=ClusterLoop.Kind.OBSERVE, due_at=present
        )

    def at(self, moment: datetime) -> None:
        self.moment = moment
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])

    def turn(self) -> None:
        """Every loop once, as beat would run them."""
        instance_loop.run(connect=lambda _: self.cluster)
        observe.run(connect=lambda _: self.cluster)
        following.follow()
        charging.charge()
        charging.settle()
        charging.funds()

    def until(self, moment: datetime) -> None:
        """Turn the loops every twenty seconds up to ``moment``."""
        while self.moment < moment:
            self.at(min(moment, self.moment + timedelta(seconds=20)))
            self.turn()


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [NOON.isoformat()])
    return make_supply(4)


@pytest.fixture
def platform(supply: Supply) -> Platform:
    return Platform(supply)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    return make_renter()


def rent(renter: Renter, supply: Supply, gpus: int = 2, **changes: Any) -> str:
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": gpus})[1]
    body = order(supply.offer, requirement=..., quote=quote["id"], **changes)
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    return str(rental["id"])


def show(renter: Renter, rental: str) -> dict[str, Any]:
    return dict(renter.call("GET", f"/rentals/{rental}")[1])


def test_from_the_click_to_the_owners_share(platform, renter, supply):
    rental = rent(renter, supply, env={"MODE": "train"})
    platform.turn()
    pod = platform.cluster.only()
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "2"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert show(renter, rental)["state"] == "provisioning"

    platform.at(NOON + timedelta(seconds=10))
    platform.cluster.pull()
    platform.turn()
    platform.until(NOON + timedelta(seconds=100))
    assert show(renter, rental)["state"] == "pulling"
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + timedelta(minutes=2))
    running = show(renter, rental)
    assert (running["state"], running["reason"]) == ("running", "ready")
    assert running["spent"] == "0.0000"

    platform.until(NOON + timedelta(minutes=92))
    stopped_at = platform.moment
    status, ending = renter.call("DELETE", f"/rentals/{rental}")
    assert (status, ending["state"]) == (202, "terminating")
    platform.until(NOON + timedelta(minutes=94))
    ended = show(renter, rental)
    assert (ended["state"], ended["reason"]) == ("terminated", "terminated_by_user")
    assert platform.cluster.pods == {}
    assert platform.cluster.secrets == {}
    assert platform.cluster.created == 1

    charges = renter.call("GET", f"/rentals/{rental}/charges")[1]["items"]
    assert [line["seconds"] for line in charges] == [58 * 60, 32 * 60]
    assert charges[-1]["to"] == stopped_at.isoformat().replace("+00:00", "Z")
    assert ended["spent"] == "6.0000"  # two cards at 2.0000, an hour and a half
    proof = renter.call("GET", f"/charges/{charges[0]['id']}/evidence")[1]
    assert proof["pod_uid"] == pod["metadata"]["uid"]
    assert len(proof["proof"]["devices"]) == 2

    earned = billing.earnings(provider_ref=supply.provider.id)
    assert earned.pending_micro == 5_100_000  # 85 % of it
    assert billing.books().balanced
    balance = renter.call("GET", "/billing/balance")[1]
    assert (float(balance["available"]), float(balance["held"])) == (994.0, 0.0)

    platform.until(NOON + timedelta(minutes=95))
    recycle()
    refresh()
    assert not Hold.objects.filter(to_ts=None).exists()
    assert Slot.objects.filter(state="free").count() == 4


def test_an_image_that_cannot_be_had_costs_nothing(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.refuse_image(cards=2)
    platform.until(NOON + timedelta(minutes=3))
    failed = show(renter, rental)
    assert (failed["state"], failed["fault"]) == ("failed", "renter"), failed
    assert failed["spent"] == "0.0000"
    assert platform.cluster.pods == {}
    balance = renter.call("GET", "/billing/balance")[1]
    assert (float(balance["available"]), float(balance["held"])) == (1000.0, 0.0)


def test_other_cards_than_ordered_never_run_and_cost_nothing(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.run(NOON, cards=1)
    platform.until(NOON + timedelta(minutes=2))
    failed = show(renter, rental)
    assert (failed["state"], failed["reason"]) == ("failed", "order_mismatch")
    assert failed["fault"] == "host"
    assert (failed["spent"], failed["ready_at"]) == ("0.0000", None)


def test_seconds_in_which_nobody_saw_the_machine_are_free(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.run(NOON, cards=2)
    platform.until(NOON + timedelta(minutes=10))
    platform.cluster.down = True
    platform.until(NOON + timedelta(minutes=20))
    blind = show(renter, rental)
    assert (blind["state"], blind["reason"]) == ("unreachable", "cluster_unreachable")
    assert blind["continuing_charges"]["per_hour"] == "0.0000"
    platform.cluster.down = False
    platform.until(NOON + timedelta(minutes=25))
    assert show(renter, rental)["state"] == "running"
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(NOON + timedelta(minutes=27))
    assert show(renter, rental)["state"] == "terminated"
    lines = billing.charges(rental_ref=parse("rental", rental))
    seen = sum(line.seconds for line in lines)
    # Looks are twenty seconds apart, and a failed one is repeated after a pause: that is lost to
    # us at both edges. Nothing of the gap itself is paid.
    assert 15 * 60 - 100 <= seen <= 15 * 60
    assert all(
        line.to_at <= NOON + timedelta(minutes=10) or line.from_at >= NOON + timedelta(minutes=20)
        for line in lines
    )
