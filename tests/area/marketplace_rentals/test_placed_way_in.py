"""Who has to get in is placed only where somebody can: offers say where, orders hold to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from kernel.clock import now
from kernel.ids import parse
from marketplace.models import Offer, Quote, Rental
from marketplace.rentals import follow as following
from marketplace.rentals.place import place
from provisioner import facade as provisioner
from provisioner.contracts import Fault, PlacementRequest
from provisioner.instances import release
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, DeviceGroup, GroupChange, Instance, NodeShare, Slot
from tests.market import (
    H100,
    SSH_KEY,
    USD,
    Renter,
    Supply,
    add_node,
    give_relay,
    make_renter,
    make_supply,
    public_get,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _gateway(settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


@dataclass
class Market:
    """Cheap cards that nobody can get in to, and dear ones of the same kind with a way in."""

    renter: Renter
    shut: Supply
    open: Supply

    def rent(self, *, gpus: int = 1, **more: Any) -> tuple[int, Any]:
        body = {
            "requirement": {"accelerator": H100, "gpus": gpus},
            "template": "ubuntu",
            "ssh_keys": [SSH_KEY],
            "max_hours": 4,
            **more,
        }
        left = {name: value for name, value in body.items() if value is not ...}
        return self.renter.call("POST", "/rentals", left)

    def quote(self, supply: Supply, gpus: int = 1) -> str:
        body = {"offer": supply.offer.public_id, "gpus": gpus}
        status, quote = self.renter.call("POST", "/quotes", body)
        assert status == 201, quote
        return str(quote["id"])


@pytest.fixture
def market() -> Market:
    shut = make_supply(2, price=1 * USD)
    return Market(make_renter(), shut, make_supply(2, price=3 * USD, relay=True))


def lives_in(rental: dict[str, Any]) -> Any:
    newest = Instance.objects.filter(rental_ref=parse("rental", rental["id"]))
    return newest.order_by("-created_at")[0].cluster_id


def used_up(supply: Supply) -> None:
    """Somebody else has all its cards."""
    NodeShare.objects.filter(group=supply.group).update(slots_free=0)
    Slot.objects.filter(share__group=supply.group).update(state="held")
    DeviceGroup.objects.filter(pk=supply.group.pk).update(slots_free=0, largest_block=0)


def leave(rental: dict[str, Any], *, failed: bool = False) -> None:
    """Its machine ends, failed by its host or as was asked for, and is gone; the rental follows."""
    instance = Instance.objects.exclude(state="gone").get(rental_ref=parse("rental", rental["id"]))
    if failed:
        with transaction.atomic():
            provisioner.request_end(
                rental_ref=instance.rental_ref, reason="start_timeout", fault=Fault.HOST
            )
        instance.refresh_from_db()
    assert release.finish(instance, at=now(), claim=None)
    following.follow()
    for share in NodeShare.objects.all():  # cards are clean again some seconds later
        Slot.objects.filter(share=share, state="dirty").update(state="free", free_at=None)
        free = Slot.objects.filter(share=share, state="free").count()
        NodeShare.objects.filter(pk=share.pk).update(slots_free=free)
    GroupChange.objects.bulk_create(GroupChange(group=row) for row in DeviceGroup.objects.all())
    refresh()


def act(renter: Renter, rental: dict[str, Any], action: str) -> tuple[int, Any]:
    return renter.call("POST", f"/rentals/{rental['id']}/actions", {"action": action})


def stop(renter: Renter, rental: dict[str, Any]) -> dict[str, Any]:
    path = f"/rentals/{rental['id']}"
    assert act(renter, rental, "stop")[0] == 202
    leave(rental)
    shown: dict[str, Any] = renter.call("GET", path)[1]
    assert shown["state"] == "stopped", shown
    return shown


# --- what offers say ------------------------------------------------------------------------------


def test_the_first_relay_opens_the_offers_of_its_cluster(market: Market) -> None:
    path = f"/offers/{market.shut.offer.public_id}"
    assert public_get(path)[1]["ssh"] is False
    assert public_get(f"/offers/{market.open.offer.public_id}")[1]["ssh"] is True
    give_relay(market.shut.cluster)
    assert refresh() == 1
    assert public_get(path)[1]["ssh"] is True
    listed = public_get("/offers?ssh=true&order=price")[1]["items"]
    assert listed[0]["id"] == market.shut.offer.public_id


def test_a_relay_that_is_known_leaves_the_summary_alone(market: Market) -> None:
    Cluster.objects.update(relay_seen_at=now() - timedelta(minutes=1))
    give_relay(market.open.cluster)
    assert refresh() == 0


def test_a_relay_whose_offers_were_summed_up_without_it_is_noted_again(market: Market) -> None:
    """A summary of the version before, which knows no such column."""
    DeviceGroup.objects.update(has_relay=False)
    Cluster.objects.filter(pk=market.open.cluster.pk).update(
        relay_seen_at=now() - timedelta(minutes=1)
    )
    give_relay(market.open.cluster)
    assert refresh() == 1
    assert DeviceGroup.objects.get(pk=market.open.group.pk).has_relay


def test_without_a_gateway_no_offer_has_a_way_in(market: Market, settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    assert public_get("/offers?ssh=true")[1]["items"] == []
    assert [row["ssh"] for row in public_get("/offers?ssh=false")[1]["items"]] == [False, False]


# --- the first order ------------------------------------------------------------------------------


def test_an_order_with_keys_passes_cheaper_cards_that_nobody_gets_in_to(market: Market) -> None:
    status, rental = market.rent()
    assert (status, lives_in(rental)) == (202, market.open.cluster.pk)


def test_an_order_without_keys_and_ports_takes_the_cheapest(market: Market) -> None:
    status, rental = market.rent(ssh=False, ssh_keys=...)
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)


def test_named_ports_need_a_way_in_as_keys_do(market: Market, settings: Any) -> None:
    status, rental = market.rent(ssh=False, ssh_keys=..., ports=[8000])
    assert (status, lives_in(rental)) == (202, market.open.cluster.pk)
    settings.GPUYARD_PORTS_URL = None  # then ports have no names, wherever the machine is
    status, rental = market.rent(ssh=False, ssh_keys=..., ports=[8000])
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)


def test_without_a_gateway_keys_are_kept_and_decide_nothing(market: Market, settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    status, rental = market.rent()
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)
    assert (rental["access"]["ssh"], len(rental["ssh_keys"])) == (None, 1)
    quote = market.quote(market.shut)
    assert market.rent(requirement=..., quote=quote)[0] == 202


def test_where_only_the_way_in_is_missing_it_is_the_smallest_change(market: Market) -> None:
    used_up(market.open)
    status, problem = market.rent()
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    assert problem["relaxations"] == [
        {
            "changes": [{"field": "ssh", "from": True, "to": False}],
            "count": 1,
            "price_per_gpu_hour": "1.0000",
            "currency": "USD",
        }
    ]
    assert not Rental.objects.exists()


def test_a_requirement_that_needs_no_way_in_takes_any_offer(market: Market) -> None:
    wanted = {"accelerator": H100, "gpus": 1, "ssh": False}
    status, rental = market.rent(requirement=wanted, ssh=False, ssh_keys=...)
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)
    status, rental = market.rent(requirement={**wanted, "ssh": True}, ssh=False, ssh_keys=...)
    assert (status, lives_in(rental)) == (202, market.open.cluster.pk)
    for wrong in ("true", 1, None):
        status, problem = market.rent(requirement={**wanted, "ssh": wrong})
        assert (status, list(problem["errors"])) == (422, ["requirement.ssh"])


def test_a_quote_by_requirement_can_ask_for_a_way_in(market: Market) -> None:
    body = {"requirement": {"accelerator": H100, "gpus": 1}}
    assert market.renter.call("POST", "/quotes", body)[1]["offer"] == market.shut.offer.public_id
    body["requirement"]["ssh"] = True
    assert market.renter.call("POST", "/quotes", body)[1]["offer"] == market.open.offer.public_id


def test_a_quote_where_nobody_gets_in_is_refused_and_stays_good(market: Market) -> None:
    quote = market.quote(market.shut)
    status, problem = market.rent(requirement=..., quote=quote)
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    assert list(problem["errors"]) == ["ssh"]
    assert [offer["id"] for offer in problem["alternatives"]] == [market.open.offer.public_id]
    assert "owner of these cards" in problem["detail"]
    status, problem = market.rent(requirement=..., quote=quote, ports=[8000])
    assert sorted(problem["errors"]) == ["ports", "ssh"]
    assert not Rental.objects.exists()
    assert Quote.objects.get().used_at is None
    status, rental = market.rent(requirement=..., quote=quote, ssh=False, ssh_keys=...)
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)


def test_the_planner_looks_at_the_clusters_themselves(market: Market) -> None:
    """The summary may be a second old, and what is planned is what is reserved."""
    groups = (market.shut.group.pk, market.open.group.pk)
    request = PlacementRequest(groups, 1, 0, market.renter.org, needs_way_in=True)
    plan = provisioner.plan(request)
    assert {one.cluster_id for one in plan.candidates} == {market.open.cluster.pk}
    Cluster.objects.update(relay_seen_at=None)
    assert provisioner.plan(request).rejections == {"no_way_in": 2}


# --- volumes --------------------------------------------------------------------------------------


@pytest.fixture
def bound(market: Market) -> tuple[Market, str]:
    """A volume in a cluster that nobody gets in to."""
    place = make_supply(2, storage="cluster", region="us-east", country="US")
    body = {"name": "data", "size_gib": 10, "offer": place.offer.public_id}
    status, volume = market.renter.call("POST", "/volumes", body)
    assert status in (201, 202), volume
    return Market(market.renter, place, market.open), str(volume["id"])


def test_a_first_order_is_told_that_nobody_gets_in_where_its_volumes_are(
    bound: tuple[Market, str],
) -> None:
    market, volume = bound
    mounts = [{"volume": volume, "mount": "/data"}]
    status, problem = market.rent(volumes=mounts)
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    assert "way in" in problem["detail"]
    assert not Rental.objects.exists()
    status, rental = market.rent(volumes=mounts, ssh=False, ssh_keys=...)
    assert (status, lives_in(rental)) == (202, market.shut.cluster.pk)


def test_who_has_data_there_starts_again_and_reads_that_nobody_gets_in(
    bound: tuple[Market, str], settings: Any
) -> None:
    market, volume = bound
    settings.GPUYARD_SSH_GATEWAY = None  # rented before there was a way in anywhere
    status, rental = market.rent(volumes=[{"volume": volume, "mount": "/data"}])
    assert status == 202, rental
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    shown = stop(market.renter, rental)
    assert shown["restart_forecast"]["would_start_now"] is True
    path = f"/rentals/{rental['id']}"
    status, again = act(market.renter, rental, "start")
    assert (status, again["state"]) == (202, "provisioning"), again
    assert lives_in(rental) == market.shut.cluster.pk
    told = market.renter.call("GET", f"{path}/events")[1]["items"][-1]["text"]
    assert told.endswith("Nobody can get in to it: the cluster that has its volumes has no way in "
                         "yet.")  # fmt: skip


# --- later placements -----------------------------------------------------------------------------


@pytest.fixture
def old(market: Market, settings: Any) -> tuple[Market, dict[str, Any]]:
    """A rental with keys that was placed where nobody gets in, before there was a gateway."""
    settings.GPUYARD_SSH_GATEWAY = None
    status, rental = market.rent(failover=True)
    assert status == 202
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    assert lives_in(rental) == market.shut.cluster.pk
    return market, rental


def neighbour(of: Supply) -> Supply:
    """The same kind of card in the same data centre, in a cluster with a relay; dearer."""
    other = make_supply(2, price=9 * USD, owner=of.owner, relay=True)
    Cluster.objects.filter(pk=other.cluster.pk).update(datacenter_ref=of.datacenter.pk)
    DeviceGroup.objects.filter(pk=other.group.pk).update(datacenter_ref=of.datacenter.pk)
    offer = other.offer
    offer.datacenter = of.datacenter
    offer.save(update_fields=["datacenter"])
    return other


def test_a_stopped_rental_starts_where_somebody_gets_in(old: tuple[Market, Any]) -> None:
    market, rental = old
    stop(market.renter, rental)
    other = neighbour(market.shut)
    status, again = act(market.renter, rental, "start")
    assert (status, again["state"]) == (202, "provisioning"), again
    assert lives_in(rental) == other.cluster.pk
    assert Rental.objects.get().price_micro_h == 1 * USD, "fixed when it was rented"


def test_with_no_way_in_in_its_data_centre_a_start_says_what_to_do(old: tuple[Market, Any]) -> None:
    market, rental = old
    shown = stop(market.renter, rental)
    assert shown["restart_forecast"]["would_start_now"] is False
    path = f"/rentals/{rental['id']}"
    status, problem = act(market.renter, rental, "start")
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    assert "way in" in problem["detail"]
    assert "ssh_keys" in problem["detail"]
    assert market.renter.call("PATCH", path, {"ssh_keys": []})[0] == 200
    assert market.renter.call("GET", path)[1]["restart_forecast"]["would_start_now"] is True
    assert act(market.renter, rental, "start")[0] == 202
    assert lives_in(rental) == market.shut.cluster.pk


def test_with_a_way_in_and_no_cards_a_start_is_refused_as_ever(old: tuple[Market, Any]) -> None:
    market, rental = old
    stop(market.renter, rental)
    used_up(neighbour(market.shut))
    status, problem = act(market.renter, rental, "start")
    assert (status, problem["type"]) == (409, "/problems/offer_taken")
    assert [offer["id"] for offer in problem["alternatives"]] == [market.open.offer.public_id]


def test_another_host_is_one_where_somebody_gets_in(old: tuple[Market, Any]) -> None:
    market, rental = old
    other = neighbour(market.shut)
    add_node(market.shut.group, 2)  # another host of the same cluster would be nearer
    leave(rental, failed=True)
    row = Rental.objects.get(pk=parse("rental", rental["id"]))
    assert row.state == "requested", (row.state, row.reason)
    assert place() == 1
    assert lives_in(rental) == other.cluster.pk


@dataclass
class Waiting:
    """Two orders for the same cards, the first of which has to be entered, and none are free."""

    market: Market
    entered: dict[str, Any]
    other: dict[str, Any]


def reprice(supply: Supply, micro: int) -> None:
    Offer.objects.filter(pk=supply.offer.pk).update(price_micro_h=micro)


@pytest.fixture
def waiting(market: Market) -> Waiting:
    reprice(market.open, USD // 2)  # the nearest for both orders
    used_up(market.open)
    used_up(market.shut)
    more: dict[str, Any] = {
        "requirement": {"accelerator": H100, "gpus": 1, "max_price": "5"},
        "queue": {"deadline_seconds": 3600},
    }
    entered, other = market.rent(**more)[1], market.rent(**more, ssh=False, ssh_keys=...)[1]
    assert [each["state"] for each in (entered, other)] == ["queued", "queued"]
    first, second = Rental.objects.order_by("queued_at", "id")
    assert (first.wanted, first.offer) == (second.wanted, second.offer), "but for the way in"
    return Waiting(market, entered, other)


def cards_come_back(supply: Supply) -> None:
    Slot.objects.filter(share__group=supply.group).update(state="free")
    NodeShare.objects.filter(group=supply.group).update(slots_free=2)


def test_who_waits_is_served_where_somebody_gets_in_and_others_pass(waiting: Waiting) -> None:
    market = waiting.market
    cards_come_back(market.shut)
    assert place() == 1, "the same cards were asked for before, by somebody who has to get in"
    assert lives_in(waiting.other) == market.shut.cluster.pk
    path = f"/rentals/{waiting.entered['id']}"
    assert market.renter.call("GET", path)[1]["state"] == "queued"
    give_relay(market.shut.cluster)
    refresh()
    assert place() == 1
    assert lives_in(waiting.entered) == market.shut.cluster.pk


def test_offers_that_nobody_gets_in_to_hide_no_other(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planner is asked about so many of the cheapest at most."""
    monkeypatch.setattr("marketplace.rentals.serving.MAX_OFFERS", 1)
    reprice(waiting.market.shut, USD // 10)
    cards_come_back(waiting.market.open)
    assert place() == 1
    assert lives_in(waiting.entered) == waiting.market.open.cluster.pk


def test_room_is_made_where_somebody_gets_in(market: Market) -> None:
    """Two such orders, and another's rental in the way that may be interrupted."""
    reprice(market.open, USD // 2)
    used_up(market.open)
    body = {"price_per_gpu_hour": "1", "interruptible_price_per_gpu_hour": "0.5"}
    offer = market.shut.offer.public_id
    assert market.shut.owner.call("PATCH", f"/provider/offers/{offer}", body)[0] == 200
    wanted = {"accelerator": H100, "gpus": 2, "max_price": "5"}
    others = Market(make_renter("Others"), market.shut, market.open)
    status, taken = others.rent(
        requirement={**wanted, "interruptible": True}, ssh=False, ssh_keys=...
    )
    assert status == 202, taken
    held = Rental.objects.filter(pk=parse("rental", taken["id"]))
    held.update(state="running")
    asked = PlacementRequest((market.shut.group.pk,), 2, 0, market.renter.org)
    assert provisioner.rooms(asked, rentals=[held.get().pk]) != []
    asked = replace(asked, needs_way_in=True)
    assert provisioner.rooms(asked, rentals=[held.get().pk]) == []
    queue = {"deadline_seconds": 3600}
    assert market.rent(requirement=wanted, queue=queue)[0] == 202
    place()
    assert held.get().interrupt_at is None, "whose cards would not help"
    assert market.rent(requirement=wanted, queue=queue, ssh=False, ssh_keys=...)[0] == 202
    place()
    assert held.get().interrupt_at is not None
