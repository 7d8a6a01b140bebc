"""Volumes over the API: made, mounted, grown, deleted with a confirmation; limits and races."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import now
from kernel.ids import new_id, parse
from marketplace.models import Organization, Rental, RentalVolume, Volume
from marketplace.volumes import confirm, later
from marketplace.volumes.forecast import SAME_CLUSTER, SAME_NODE, forecast
from provisioner.instances.release import finish
from provisioner.inventory.summary import refresh
from provisioner.models import GroupChange, Instance, VolumeAttachment
from provisioner.models import Volume as Row
from provisioner.volumes.receipt import Absence, is_genuine
from provisioner.volumes.receipt import finish as finish_volume
from tests.market import Renter, Supply, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply() -> Supply:
    return make_supply(4, 4, storage="cluster")


@pytest.fixture
def renter() -> Renter:
    return make_renter()


def make(renter: Renter, supply: Supply, **more: Any) -> dict[str, Any]:
    body = {"name": "data", "size_gib": 10, "datacenter": supply.datacenter.public_id, **more}
    body = {name: value for name, value in body.items() if value is not ...}
    status, made = renter.call("POST", "/volumes", body)
    assert status == 202, made
    return dict(made)


def bind(identifier: str, **columns: Any) -> None:
    """As the loop leaves a volume whose claim is bound."""
    key = parse("volume", identifier)
    held = VolumeAttachment.objects.filter(volume_id=key, to_at=None).exists()
    values = {"bound_gib": 10, "bound_at": now(), **columns}
    Row.objects.filter(pk=key).update(state="attached" if held else "available", **values)


def mounting(supply: Supply, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return order(supply.offer, volumes=list(entries), **more)


def test_a_volume_is_made_named_grown_and_deleted_with_a_receipt(supply, renter) -> None:
    made = make(renter, supply, labels={"team": "a"})
    assert (made["state"], made["reason"], made["storage"]) == ("requested", "requested", "cluster")
    assert made["disk_price"] == "0.0000"
    assert made["bound_at"] is None
    path = f"/volumes/{made['id']}"
    assert renter.call("GET", path)[1] == made
    assert renter.call("GET", "/volumes")[1]["items"] == [made]
    changed = renter.call("PATCH", path, {"name": "better"}, If_Match='"1"')[1]
    assert (changed["name"], changed["version"]) == ("better", 2)
    assert renter.call("PATCH", path, {"name": "late"}, If_Match='"1"')[0] == 412

    status, problem = renter.call("PATCH", path, {"size_gib": 20})
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    bind(made["id"])
    assert renter.call("GET", path)[1]["actions"] == ["attach", "delete", "grow"]
    assert renter.call("PATCH", path, {"size_gib": 5})[0] == 422
    grown = renter.call("PATCH", path, {"size_gib": 20})[1]
    assert (grown["state"], grown["size_gib"], grown["bound_gib"]) == ("resizing", 20, 10)
    for name in ("snapshot", "export"):
        status, problem = renter.call("PATCH", path, {name: True})
        assert status == 422
        assert "not available yet" in problem["errors"][name][0]

    status, problem = renter.call("GET", f"{path}/receipt")
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    status, problem = renter.call("DELETE", path)
    assert (status, problem["type"]) == (409, "/problems/data_loss_confirmation_required")
    assert problem["volumes"] == [{"id": made["id"], "name": "better", "size_gib": 20}]
    assert renter.call("GET", path)[1]["state"] == "resizing", "nothing was done"
    wanted = f"{path}?confirm_token={problem['confirm_token']}"
    status, deleting = renter.call("DELETE", wanted)
    assert (status, deleting["state"]) == (202, "deleting")
    assert renter.call("DELETE", path)[0] == 202, "repeating it changes nothing"
    row = Row.objects.select_related("namespace").get(pk=parse("volume", made["id"]))
    assert finish_volume(row, Absence(now(), "77", 0), at=now(), claim=None)
    proof = renter.call("GET", f"{path}/receipt")[1]
    assert proof["content"]["absence"]["list_resource_version"] == "77"
    assert is_genuine(proof["content"], proof["signature"], proof["public_key"])
    assert renter.call("GET", path)[1]["state"] == "deleted"
    assert renter.call("GET", "/volumes?kept=true")[1]["items"] == []


def test_one_order_takes_cards_a_new_volume_and_an_old_one(supply, renter) -> None:
    old = make(renter, supply)
    body = mounting(
        supply,
        {"volume": old["id"], "mount": "/data"},
        {"size_gib": 30, "mount": "/models", "read_only": False},
    )
    status, rental = renter.call("POST", "/rentals", body)
    assert status == 202, rental
    assert [(v["mount"], v["name"], v["size_gib"]) for v in rental["volumes"]] == [
        ("/data", "data", 10),
        ("/models", "models", 30),
    ]
    instance = Instance.objects.get()
    assert VolumeAttachment.objects.filter(instance=instance, to_at=None).count() == 2
    assert {mount["path"] for mount in instance.order["volumes"]} == {"/data", "/models"}
    shown = renter.call("GET", f"/volumes/{old['id']}")[1]
    assert shown["rental"] == rental["id"]
    assert "delete" not in shown["actions"]
    status, problem = renter.call("DELETE", f"/volumes/{old['id']}")
    assert (status, problem["type"]) == (409, "/problems/volume_in_use")
    status, problem = renter.call(
        "POST", "/rentals", mounting(supply, {"volume": old["id"], "mount": "/x"})
    )
    assert (status, problem["type"]) == (409, "/problems/volume_in_use")
    assert problem["rental"] == rental["id"]
    assert Rental.objects.count() == 1

    # The volumes outlive the machine and are mounted the same way at another start.
    renter.call("DELETE", f"/rentals/{rental['id']}")
    instance.refresh_from_db()
    assert finish(instance, at=now(), claim=None)
    assert renter.call("GET", f"/volumes/{old['id']}")[1]["rental"] is None
    again = later.again(parse("rental", rental["id"]))
    assert [mount.path for mount in again.mounts] == ["/data", "/models"]
    assert again.place.cluster_ids == (supply.cluster.pk,)
    status, second = renter.call(
        "POST", "/rentals", mounting(supply, {"volume": old["id"], "mount": "/x"})
    )
    assert status == 202, second


def test_an_order_goes_where_its_data_is(renter) -> None:
    cheap = make_supply(4, price=1_000_000, storage="node")
    dear = make_supply(4, 4, price=5_000_000, storage="node")
    body = order(cheap.offer, requirement={"accelerator": "nvidia-h100-80gb-sxm", "gpus": 1})
    free = renter.call("POST", "/rentals", body)[1]
    assert free["offer"] == cheap.offer.public_id
    made = make(renter, dear)
    held = {"volumes": [{"volume": made["id"], "mount": "/data"}]}
    rental = renter.call("POST", "/rentals", {**body, **held})[1]
    assert rental["offer"] == dear.offer.public_id
    # On its node, once it is bound there; and an honest no when that is full.
    other = make(renter, dear)
    node = Instance.objects.get(rental_ref=parse("rental", rental["id"])).share.node
    bind(other["id"], node=node)
    held = {"volumes": [{"volume": other["id"], "mount": "/data"}]}
    four = {"accelerator": "nvidia-h100-80gb-sxm", "gpus": 4}
    status, problem = renter.call("POST", "/rentals", {**body, **held, "requirement": four})
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    assert "machine that holds your volumes" in problem["detail"]
    assert problem["relaxations"] == []
    second = renter.call("POST", "/rentals", {**body, **held})[1]
    placed = Instance.objects.get(rental_ref=parse("rental", second["id"]))
    assert placed.share.node == node


def test_a_quote_must_be_where_the_volume_is(supply, renter) -> None:
    bare = make_supply(1)
    quote = renter.call("POST", "/quotes", {"offer": bare.offer.public_id, "gpus": 1})[1]
    made = make(renter, supply)
    for entry in ({"volume": made["id"]}, {"size_gib": 5}):
        body = order(
            bare.offer, requirement=..., quote=quote["id"], volumes=[{**entry, "mount": "/data"}]
        )
        status, problem = renter.call("POST", "/rentals", body)
        assert (status, set(problem["errors"])) == (422, {"volumes"})
    assert not Rental.objects.exists()


def test_a_new_volume_needs_a_cluster_with_storage(renter) -> None:
    bare = make_supply(4)
    status, problem = renter.call(
        "POST", "/rentals", mounting(bare, {"size_gib": 5, "mount": "/data"})
    )
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    body = {"name": "x", "size_gib": 1}
    for where in (
        {"datacenter": bare.datacenter.public_id},
        {"offer": bare.offer.public_id},
        {"datacenter": bare.datacenter.public_id, "offer": bare.offer.public_id},
        {},
    ):
        status, problem = renter.call("POST", "/volumes", {**body, **where})
        assert (status, problem["type"]) == (422, "/problems/invalid_request"), where
    status, _ = renter.call("POST", "/volumes", {**body, "datacenter": "dc_x"})
    assert status == 404
    assert not Volume.objects.exists()
    assert not Row.objects.exists()


def test_the_catalogue_shows_and_filters_storage(supply) -> None:
    bare = make_supply(1, region="us-east", country="US")

    def ids(query: str) -> set[str]:
        return {row["id"] for row in public_get(f"/offers?{query}")[1]["items"]}

    assert ids("storage=cluster") == {supply.offer.public_id}
    assert ids("storage=none") == {bare.offer.public_id}
    assert ids("storage=node") == set()
    assert public_get(f"/offers/{supply.offer.public_id}")[1]["storage"] == "cluster"
    places = {row["id"]: row["storage"] for row in public_get("/datacenters")[1]["items"]}
    assert places[supply.datacenter.public_id] == "cluster"
    assert places[bare.datacenter.public_id] == "none"
    regions = {row["id"]: row["storage"] for row in public_get("/regions")[1]["items"]}
    assert regions == {"eu-central": ["cluster"], "us-east": ["none"]}
    supply.cluster.storage_domain = "none"
    supply.cluster.save()
    GroupChange.objects.create(group=supply.group)
    refresh()
    assert ids("storage=cluster") == set()


BAD: list[tuple[str, Any, str]] = [
    ("no place", [{"size_gib": 1}], "volumes.0.mount"),
    ("both", [{"size_gib": 1, "volume": "vol_x", "mount": "/data"}], "volumes.0"),
    ("neither", [{"mount": "/data"}], "volumes.0"),
    ("system path", [{"size_gib": 1, "mount": "/etc"}], "volumes"),
    ("relative", [{"size_gib": 1, "mount": "data"}], "volumes"),
    ("twice", [{"size_gib": 1, "mount": "/d"}, {"size_gib": 1, "mount": "/d"}], "volumes"),
    ("too many", [{"size_gib": 1, "mount": f"/d{n}"} for n in range(9)], "volumes"),
    ("too large", [{"size_gib": 65_537, "mount": "/d"}], "volumes.0.size_gib"),
    ("nothing", [{"size_gib": 0, "mount": "/d"}], "volumes.0.size_gib"),
    ("a text", "data", "volumes"),
    ("unknown", [{"size_gib": 1, "mount": "/d", "path": "/d"}], "volumes.0.path"),
]


@pytest.mark.parametrize(("entries", "field"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_bad_mounts_are_named_and_nothing_is_stored(supply, renter, entries, field) -> None:
    status, problem = renter.call("POST", "/rentals", order(supply.offer, volumes=entries))
    assert (status, set(problem["errors"])) == (422, {field}), problem
    assert not Rental.objects.exists()
    assert not Volume.objects.exists()


def test_somebody_elses_volume_does_not_exist(supply, renter) -> None:
    theirs = make(make_renter("Other"), supply)
    body = mounting(supply, {"volume": theirs["id"], "mount": "/data"})
    for wanted in (body, mounting(supply, {"volume": "vol_x", "mount": "/data"})):
        assert renter.call("POST", "/rentals", wanted)[0] == 404
    assert not Rental.objects.exists()


def test_quotas_hold_for_number_and_size_and_leave_nothing(supply, renter) -> None:
    Organization.objects.update(quota_volumes=2, quota_volume_gib=100)
    place = {"datacenter": supply.datacenter.public_id}
    status, problem = renter.call("POST", "/volumes", {"name": "x", "size_gib": 101, **place})
    assert (status, problem["type"], problem["limit"]) == (403, "/problems/quota_exceeded", 100)
    first = make(renter, supply, size_gib=50)
    bind(first["id"])
    assert renter.call("PATCH", f"/volumes/{first['id']}", {"size_gib": 101})[0] == 403
    assert renter.call("GET", f"/volumes/{first['id']}")[1]["size_gib"] == 50
    make(renter, supply)
    status, problem = renter.call(
        "POST", "/rentals", mounting(supply, {"size_gib": 1, "mount": "/data"})
    )
    assert (status, problem["type"]) == (403, "/problems/quota_exceeded")
    assert (problem["limit"], problem["needed"]) == (2, 3)
    assert not Rental.objects.exists()
    assert not Instance.objects.exists()
    assert Row.objects.count() == Volume.objects.count() == 2
    assert renter.call("GET", "/billing/balance")[1]["held"] == "0.0000"


def test_a_refusal_for_money_keeps_no_volume(supply) -> None:
    poor = make_renter(credit=0)
    status, _ = poor.call("POST", "/rentals", mounting(supply, {"size_gib": 1, "mount": "/data"}))
    assert status == 402
    assert not Volume.objects.exists()
    assert not Row.objects.exists()
    assert not RentalVolume.objects.exists()


def test_the_same_key_makes_one_volume(supply, renter) -> None:
    body = {"name": "x", "size_gib": 1, "offer": supply.offer.public_id}
    key = str(new_id())
    first = renter.raw("POST", "/volumes", body, key=key)
    assert first[0] == 202
    assert renter.raw("POST", "/volumes", body, key=key) == first
    assert Volume.objects.count() == 1


def test_a_confirmation_is_for_these_volumes_as_they_are_and_for_ten_minutes(supply, renter):
    one, two = make(renter, supply), make(renter, supply)
    token = renter.call("DELETE", f"/volumes/{one['id']}")[1]["confirm_token"]
    for bad in (token + "0", token.replace(".", ""), "x", "", "9" * 11 + "." + token[-64:]):
        assert renter.call("DELETE", f"/volumes/{one['id']}?confirm_token={bad}")[0] == 409
    assert renter.call("DELETE", f"/volumes/{two['id']}?confirm_token={token}")[0] == 409
    later = now() + confirm.LIFETIME + timedelta(seconds=2)
    with patch("marketplace.volumes.keep.now", lambda: later):
        assert renter.call("DELETE", f"/volumes/{one['id']}?confirm_token={token}")[0] == 409
    renter.call("PATCH", f"/volumes/{one['id']}", {"name": "renamed"})
    status, problem = renter.call("DELETE", f"/volumes/{one['id']}?confirm_token={token}")
    assert (status, problem["type"]) == (409, "/problems/data_loss_confirmation_required")
    assert Volume.objects.filter(removed_at=None).count() == 2


@pytest.mark.django_db(transaction=True)
def test_many_orders_for_one_volume_and_one_has_it() -> None:
    supply, renter = make_supply(8, 8, storage="cluster"), make_renter()
    made = make(renter, supply)
    body = mounting(supply, {"volume": made["id"], "mount": "/data"})
    gate, answers = threading.Barrier(8), []

    def run() -> None:
        try:
            gate.wait(timeout=60)
            answers.append(renter.call("POST", "/rentals", body))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    kinds = sorted((status, answer.get("type", "")) for status, answer in answers)
    assert kinds == [(202, "")] + [(409, "/problems/volume_in_use")] * 7
    assert VolumeAttachment.objects.count() == Instance.objects.count() == 1


@given(st.sampled_from([SAME_NODE, SAME_CLUSTER]), st.integers(1, 16), st.integers(0, 16))
def test_a_forecast_with_volumes_counts_what_helps(where, gpus, block) -> None:
    said = forecast(where, gpus=gpus, block=block)
    assert (said.where, said.starts_now) == (where, block >= gpus)
    assert ("would have to wait" in said.text) == (block < gpus)
    assert ("machine only" in said.text) == (where == SAME_NODE)
    assert f"{block or 'no'} card" in said.text
