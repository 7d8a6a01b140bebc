"""Volumes through a rental's life: the same claim at every start, and never in two machines.

As in the other flows only the cluster's API is replaced; clocks and loops are the platform's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from kernel.ids import parse
from marketplace.models import Offer, Rental
from provisioner.models import Cluster, Instance, NodeShare, VolumeAttachment
from provisioner.models import Volume as Row
from tests.flows.stage import NOON, Platform, act, rent, show
from tests.market import Renter, Supply, add_node, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
NEW = [{"size_gib": 10, "mount": "/data"}]


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [NOON.isoformat()])
    return make_supply(4, storage="cluster")


def mounted(platform: Platform) -> dict[str, str]:
    """Path -> claim, as the one pod there is mounts them."""
    spec = platform.cluster.only()["spec"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    }
    (main,) = spec["containers"]
    return {
        mount["mountPath"]: claims[mount["name"]]
        for mount in main["volumeMounts"]
        if mount["name"] in claims
    }


def come_up(platform: Platform, renter: Renter, rental: str, node: str = "") -> None:
    platform.turn()
    platform.cluster.bind(node)
    platform.cluster.run(platform.moment, cards=2)
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "running"


def node_of(rental: str) -> NodeShare:
    rows = Instance.objects.filter(rental_ref=parse("rental", rental)).select_related("share__node")
    return rows.latest("created_at").share


def claim_of(volume: str) -> str:
    return str(Row.objects.get(pk=parse("volume", volume)).pvc_name)


def state_of(renter: Renter, volume: str) -> tuple[str, Any]:
    shown = renter.call("GET", f"/volumes/{volume}")[1]
    return shown["state"], shown["rental"]


def test_stop_and_start_mount_the_same_claim_and_the_end_leaves_it(platform, renter, supply):
    rental = rent(renter, supply, volumes=NEW)
    (entry,) = show(renter, rental)["volumes"]
    volume, wanted = entry["volume"], {"/data": claim_of(entry["volume"])}
    come_up(platform, renter, rental)
    assert mounted(platform) == wanted
    assert state_of(renter, volume) == ("attached", rental)
    stopping = act(renter, rental, "stop")[1]
    forecast = stopping["restart_forecast"]
    assert (forecast["data"], forecast["where"]) == ("kept", "same_cluster")
    assert (forecast["gpus_free"], forecast["would_start_now"]) == (2, True)
    platform.until(platform.moment + 2 * MINUTE)
    assert show(renter, rental)["state"] == "stopped"
    assert state_of(renter, volume) == ("available", None)
    assert platform.cluster.pods == {}

    assert act(renter, rental, "start")[0] == 202
    come_up(platform, renter, rental)
    assert mounted(platform) == wanted
    assert len(platform.cluster.claims) == 1, "no second volume was made"
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(platform.moment + 2 * MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    assert state_of(renter, volume) == ("available", None)
    assert len(platform.cluster.claims) == 1


def test_a_restart_keeps_the_claim_which_nobody_gets_in_between(platform, renter, supply):
    rental = rent(renter, supply, volumes=NEW)
    come_up(platform, renter, rental)
    (entry,) = show(renter, rental)["volumes"]
    first, claim = platform.cluster.only()["metadata"]["uid"], mounted(platform)
    assert act(renter, rental, "restart")[0] == 202
    other = order(supply.offer, volumes=[{"volume": entry["volume"], "mount": "/x"}])
    for _ in range(4):
        status, problem = renter.call("POST", "/rentals", other)
        assert (status, problem["type"]) == (409, "/problems/volume_in_use")
        platform.until(platform.moment + MINUTE / 3)
    come_up(platform, renter, rental)
    assert platform.cluster.only()["metadata"]["uid"] != first
    assert mounted(platform) == claim
    held = VolumeAttachment.objects.order_by("from_at")
    assert [row.to_at is None for row in held] == [False, True]
    assert held[0].to_at == held[1].from_at, "never free in between"


def test_a_restart_that_is_called_off_lets_the_volume_go(platform, renter, supply):
    rental = rent(renter, supply, volumes=NEW)
    come_up(platform, renter, rental)
    (entry,) = show(renter, rental)["volumes"]
    act(renter, rental, "restart")
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(platform.moment + 2 * MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    assert state_of(renter, entry["volume"]) == ("available", None)


def test_data_on_one_machine_starts_there_or_waits_for_it(platform, renter, supply):
    for row in (supply.cluster, supply.group):
        type(row).objects.filter(pk=row.pk).update(storage_domain="node")
    Cluster.objects.filter(pk=supply.cluster.pk).update(storage_waits=True)
    rental = rent(renter, supply, volumes=NEW)
    share = node_of(rental)
    come_up(platform, renter, rental, share.node.name)
    add_node(supply.group, 4)
    act(renter, rental, "stop")
    platform.until(platform.moment + 2 * MINUTE)
    blocker = rent(make_renter("Others"), supply, gpus=4)
    assert node_of(blocker).pk == share.pk, "the test needs the data's machine to be full"
    forecast = show(renter, rental)["restart_forecast"]
    assert (forecast["where"], forecast["gpus_free"]) == ("same_node", 0)
    assert forecast["would_start_now"] is False
    assert "would have to wait" in forecast["text"]
    status, problem = act(renter, rental, "start")
    assert (status, problem["type"]) == (409, "/problems/offer_taken")
    assert "on the machine that holds its volumes" in problem["detail"]
    assert problem["alternatives"] == []

    status, queued = act(renter, rental, "start", queue={"deadline_seconds": 3600})
    assert (status, queued["state"]) == (202, "queued")
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "queued", "the other machine is no use to it"
    Rental.objects.filter(pk=parse("rental", blocker)).update(expires_at=platform.moment)
    platform.until(platform.moment + 2 * MINUTE)
    assert node_of(rental).pk == share.pk
    come_up(platform, renter, rental, share.node.name)


def test_one_that_waits_for_its_data_holds_up_nobody(platform, renter, supply):
    held = rent(renter, supply, gpus=4, volumes=NEW)
    (entry,) = show(renter, held)["volumes"]
    platform.turn()
    renter.call("DELETE", f"/rentals/{held}")
    platform.until(platform.moment + 2 * MINUTE)
    rent(make_renter("Others"), supply, gpus=4)
    body = {**order(supply.offer, gpus=2), "queue": {"deadline_seconds": 3600}}
    tied = {**body, "volumes": [{"volume": entry["volume"], "mount": "/data"}]}
    first, second = (renter.call("POST", "/rentals", one)[1] for one in (tied, body))
    assert [first["state"], second["state"]] == ["queued", "queued"]
    assert [mount["volume"] for mount in first["volumes"]] == [entry["volume"]]
    elsewhere = make_supply(2, owner=supply.owner)
    platform.add(elsewhere.cluster)
    platform.until(platform.moment + MINUTE)
    assert show(renter, first["id"])["state"] == "queued"
    assert show(renter, second["id"])["state"] == "provisioning"


def test_a_new_volume_cannot_wait_in_the_queue(renter, supply):
    body = {**order(supply.offer, volumes=NEW), "queue": {"deadline_seconds": 3600}}
    status, problem = renter.call("POST", "/rentals", body)
    assert (status, set(problem["errors"])) == (422, {"volumes"})
    assert "POST /volumes" in problem["errors"]["volumes"][0]
    assert not Rental.objects.exists()
    assert not Row.objects.exists()


def test_a_deleted_volume_is_named_when_its_rental_shall_start(platform, renter, supply):
    rental = rent(renter, supply, volumes=NEW)
    come_up(platform, renter, rental)
    (entry,) = show(renter, rental)["volumes"]
    act(renter, rental, "stop")
    platform.until(platform.moment + 2 * MINUTE)
    path = f"/volumes/{entry['volume']}"
    token = renter.call("DELETE", path)[1]["confirm_token"]
    assert renter.call("DELETE", f"{path}?confirm_token={token}")[0] == 202
    status, problem = act(renter, rental, "start")
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    assert entry["volume"] in problem["detail"]
    forecast = show(renter, rental)["restart_forecast"]
    assert (forecast["would_start_now"], forecast["gpus_free"]) == (False, 0)


def test_a_lost_host_is_left_with_the_volume_in_the_same_cluster(platform, renter, supply):
    add_node(supply.group, 4)
    rental = rent(renter, supply, volumes=NEW, failover=True)
    come_up(platform, renter, rental)
    claim, first = mounted(platform), node_of(rental)
    platform.cluster.pods.clear()
    platform.until(platform.moment + 2 * MINUTE)
    assert node_of(rental).pk != first.pk
    come_up(platform, renter, rental)
    assert mounted(platform) == claim


def test_data_on_a_lost_machine_goes_nowhere_and_says_so(platform, renter, supply):
    for row in (supply.cluster, supply.group):
        type(row).objects.filter(pk=row.pk).update(storage_domain="node")
    rental = rent(renter, supply, volumes=NEW, failover=True)
    come_up(platform, renter, rental, node_of(rental).node.name)
    add_node(supply.group, 4)
    platform.cluster.pods.clear()
    platform.until(platform.moment + 2 * MINUTE)
    failed = show(renter, rental)
    assert (failed["state"], failed["reason"]) == ("failed", "host_lost")
    assert "retry" in failed["actions"]
    assert Instance.objects.count() == 1
    events = renter.call("GET", f"/rentals/{rental}/events")[1]["items"]
    assert any("on the disks of that machine" in event["text"] for event in events)


def test_after_a_lease_ran_out_unseen_nothing_starts_with_its_volume(platform, renter, supply):
    other = make_supply(4, owner=supply.owner, storage="cluster")
    for row in (other.cluster, other.group):
        type(row).objects.filter(pk=row.pk).update(datacenter_ref=supply.datacenter.pk)
    Offer.objects.filter(pk=other.offer.pk).update(datacenter=supply.datacenter)
    platform.add(other.cluster)
    Cluster.objects.update(reaper_state="running")
    rental = rent(renter, supply, volumes=NEW, failover=True)
    come_up(platform, renter, rental)
    (entry,) = show(renter, rental)["volumes"]
    platform.cluster.down = True
    platform.until(platform.moment + 20 * MINUTE)
    failed = show(renter, rental)
    assert (failed["state"], failed["reason"]) == ("failed", "lapsed")
    assert "retry" not in failed["actions"]
    assert Instance.objects.count() == 1, "not elsewhere: the volume is in the dark cluster"
    assert state_of(renter, entry["volume"]) == ("attached", rental)
    assert act(renter, rental, "retry")[0] == 409
    platform.cluster.down = False
    platform.until(platform.moment + 4 * MINUTE)
    assert "retry" in show(renter, rental)["actions"]
    assert state_of(renter, entry["volume"]) == ("available", None)
    assert act(renter, rental, "retry")[0] == 202
    come_up(platform, renter, rental)


def test_who_waits_for_a_volume_that_another_got_first_waits_on(platform, renter, supply):
    held = rent(renter, supply, gpus=4, volumes=NEW)
    (entry,) = show(renter, held)["volumes"]
    platform.turn()
    renter.call("DELETE", f"/rentals/{held}")
    platform.until(platform.moment + 2 * MINUTE)
    blocker = rent(make_renter("Others"), supply, gpus=4)
    body = {**order(supply.offer, gpus=2), "queue": {"deadline_seconds": 3600}}
    tied = {**body, "volumes": [{"volume": entry["volume"], "mount": "/data"}]}
    first, second = (renter.call("POST", "/rentals", tied)[1]["id"] for _ in range(2))
    Rental.objects.filter(pk=parse("rental", blocker)).update(expires_at=platform.moment)
    platform.until(platform.moment + 3 * MINUTE)
    assert show(renter, first)["state"] == "provisioning"
    assert show(renter, second)["state"] == "queued", "two cards are free, its data is not"
    renter.call("DELETE", f"/rentals/{first}")
    platform.until(platform.moment + 3 * MINUTE)
    assert show(renter, second)["state"] == "provisioning"
