"""GET /offers: every filter does what it says, none is dropped, pages are stable."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from kernel.text import rfc3339
from marketplace.catalog import publish
from marketplace.catalog.query import FILTERS
from marketplace.catalog.search import parse, search
from marketplace.models import Offer
from provisioner.models import Cluster, DeviceGroup
from tests.market import H100, PART, USD, Supply, make_renter, make_supply, public_get

pytestmark = pytest.mark.django_db


@pytest.fixture
def supplies(settings) -> dict[str, Supply]:
    """Offers that differ in everything a filter can tell apart: four of cards, one of parts."""
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    found = {
        "big": make_supply(8, 8, price=2 * USD, vcpus_milli_per_gpu=16000, relay=True),
        "small": make_supply(2, price=1 * USD, accelerator="nvidia-rtx-4090", country="US",
                             region="us-east", disk_mib_per_gpu=51200),
        "ascend": make_supply(4, price=1 * USD, accelerator="ascend-910b", ownership="owned",
                              country="SG", region="ap-southeast", ram_mib_per_gpu=32768),
        "bundle": make_supply(4, price=3 * USD, interruptible=USD, min_gpus=4, cuda_max="12.2"),
        "part": make_supply(7, price=USD // 2, accelerator=PART, sharing_mode="partition",
                            country="JP", region="ap-northeast", vcpus_milli_per_gpu=3000),
    }  # fmt: skip
    small = found["small"]
    day = {"ends_at": rfc3339(now() + timedelta(hours=24))}
    assert small.owner.call("PATCH", f"/provider/offers/{small.offer.public_id}", day)[0] == 200
    return found


CASES = [
    ("", {"big", "small", "ascend", "bundle"}),
    (f"accelerator={H100}", {"big", "bundle"}),
    (f"accelerator={H100}&accelerator=ascend-910b", {"big", "bundle", "ascend"}),
    ("vendor=huawei", {"ascend"}),
    ("vendor=amd", set()),
    ("gpus=1", {"big", "small", "ascend"}),
    ("gpus=4", {"big", "ascend", "bundle"}),
    ("gpus=9", set()),
    ("min_memory_gib=80", {"big", "bundle"}),
    ("min_memory_gib=64", {"big", "bundle", "ascend"}),
    ("min_memory_gib=24.5", {"big", "bundle", "ascend"}),
    ("min_vcpus=16", {"big", "bundle"}),  # the bundle's four cards together
    ("min_vcpus=16.001", {"bundle"}),
    ("min_ram_gib=64", {"big", "small", "bundle"}),
    ("gpus=2&min_ram_gib=64", {"big", "small", "ascend"}),
    ("min_disk_gib=51", {"big", "ascend", "bundle"}),
    ("gpus=2&min_disk_gib=51", {"big", "small", "ascend"}),
    ("min_cuda=12.4", {"big", "small"}),
    ("min_cuda=12.0", {"big", "small", "bundle"}),
    ("region=us-east", {"small"}),
    ("region=nowhere", set()),
    ("country=sg", {"ascend"}),
    ("ownership=owned", {"ascend"}),
    ("ownership=partner", {"big", "small", "bundle"}),
    ("tier=standard", {"big", "small", "ascend", "bundle"}),
    ("tier=secure", set()),
    ("isolation=container", {"big", "small", "ascend", "bundle"}),
    ("isolation=vm", set()),
    ("interruptible=false", {"big", "small", "ascend"}),
    ("interruptible=true", {"bundle"}),
    ("interruptible=true&max_price=1", {"bundle"}),
    ("interruptible=true&max_price=0.999999", set()),
    ("ssh=true", {"big"}),
    ("ssh=false", {"small", "ascend", "bundle"}),
    ("ssh=true&gpus=9", set()),
    ("storage=none", {"big", "small", "ascend", "bundle"}),
    ("storage=cluster", set()),
    ("max_price=1.5", {"small", "ascend"}),
    ("max_price=1", {"small", "ascend"}),
    ("max_price=0.999999", set()),
    ("min_reliability=0.5", set()),
    ("egress=internet", {"big", "small", "ascend", "bundle"}),
    ("egress=none", {"big", "small", "ascend", "bundle"}),
    ("min_hours=24", {"big", "ascend", "bundle"}),
    ("min_hours=23", {"big", "small", "ascend", "bundle"}),
    ("min_hours=8784", {"big", "ascend", "bundle"}),
    ("interconnect=nvlink", {"big", "bundle"}),
    ("interconnect=none", {"small"}),
    # A part of a card is shown to who asked for parts or for this one, and to nobody else.
    ("sharing_mode=whole", {"big", "small", "ascend", "bundle"}),
    ("sharing_mode=partition", {"part"}),
    (f"accelerator={PART}", {"part"}),
    (f"accelerator={PART}&accelerator={H100}", {"part", "big", "bundle"}),
    (f"accelerator={PART}&sharing_mode=whole", set()),
    ("vendor=nvidia", {"big", "small", "bundle"}),
    ("vendor=nvidia&sharing_mode=partition", {"part"}),
    ("max_price=0.5", set()),
]


def test_every_filter_has_a_case():
    named = {part.split("=")[0] for text, _ in CASES for part in text.split("&") if part}
    assert named == set(FILTERS) - {"order"}


def test_filters(supplies):
    names = {supply.offer.public_id: name for name, supply in supplies.items()}
    card = next(
        row
        for row in public_get("/accelerators?limit=200")[1]["items"]
        if row["slug"] == "ascend-910b"
    )
    for text, expected in CASES:
        status, page = public_get(f"/offers?{text}")
        assert status == 200, page
        wanted = set(expected)
        if text == "interconnect=none" and card["interconnect"] is None:
            wanted.add("ascend")
        assert {names[row["id"]] for row in page["items"]} == wanted, text


@pytest.mark.parametrize(
    ("text", "slug", "named", "nearest"),
    [
        ("acelerator=x", "unknown_filter", "acelerator", "accelerator"),
        ("min_memory=24", "unknown_filter", "min_memory", "min_memory_gib"),
        ("page=2", "unknown_filter", "page", None),
        (f"accelerator={H100[:-1]}", "invalid_filter", "accelerator", None),
        ("accelerator=", "invalid_filter", "accelerator", None),
        ("vendor=nvdia", "invalid_filter", "vendor", None),
        ("gpus=0", "invalid_filter", "gpus", None),
        ("gpus=-1", "invalid_filter", "gpus", None),
        ("gpus=1.5", "invalid_filter", "gpus", None),
        ("gpus=١", "invalid_filter", "gpus", None),
        ("gpus=99999999999999999999", "invalid_filter", "gpus", None),
        ("gpus=1&gpus=2", "invalid_filter", "gpus", None),
        ("min_memory_gib=nan", "invalid_filter", "min_memory_gib", None),
        ("min_memory_gib=-1", "invalid_filter", "min_memory_gib", None),
        ("min_vcpus=1e9", "invalid_filter", "min_vcpus", None),
        ("min_ram_gib=x", "invalid_filter", "min_ram_gib", None),
        ("min_disk_gib=", "invalid_filter", "min_disk_gib", None),
        ("min_cuda=twelve", "invalid_filter", "min_cuda", None),
        ("region=../etc", "invalid_filter", "region", None),
        ("country=GER", "invalid_filter", "country", None),
        ("ownership=mine", "invalid_filter", "ownership", None),
        ("tier='", "invalid_filter", "tier", None),
        ("isolation=%00", "invalid_filter", "isolation", None),
        ("interruptible=yes", "invalid_filter", "interruptible", None),
        ("ssh=yes", "invalid_filter", "ssh", None),
        ("ssh=", "invalid_filter", "ssh", None),
        ("ssh=True", "invalid_filter", "ssh", None),
        ("ssh=true&ssh=true", "invalid_filter", "ssh", None),
        ("shh=true", "unknown_filter", "shh", "ssh"),
        ("storage=nfs", "invalid_filter", "storage", None),
        ("max_price=-1", "invalid_filter", "max_price", None),
        ("max_price=0.1234567", "invalid_filter", "max_price", None),
        ("max_price=Infinity", "invalid_filter", "max_price", None),
        ("min_reliability=2", "invalid_filter", "min_reliability", None),
        ("interconnect=string", "invalid_filter", "interconnect", None),
        ("sharing_mode=mig", "invalid_filter", "sharing_mode", None),
        ("sharing_mode=shared", "invalid_filter", "sharing_mode", None),
        ("order=cheap", "invalid_filter", "order", None),
        ("limt=5", "unknown_filter", "limt", "limit"),
        ("limit=5&limit=6", "invalid_filter", "limit", None),
        ("limit=0", "invalid_filter", "limit", None),
        ("limit=201", "invalid_filter", "limit", None),
        ("cursor=AAAA", "invalid_cursor", None, None),
        ("cursor=%F0%9F%98%80", "invalid_cursor", None, None),
        (f"cursor={'x' * 5000}", "invalid_cursor", None, None),
    ],
)
def test_nothing_unknown_or_malformed_is_dropped(text, slug, named, nearest):
    status, problem = public_get(f"/offers?{quote(text, safe='=&%')}")
    assert (status, problem["type"]) == (400, f"/problems/{slug}"), problem
    if named:
        assert problem["filter"] == named
    if nearest:
        assert problem["nearest"] == nearest
    if slug == "unknown_filter":
        assert problem["nearest"]


def test_pages_follow_the_order_through_ties_and_inserts(supplies):
    for _ in range(5):
        make_supply(1, price=1 * USD)
    for order in ("price", "-price", "reliability", "performance"):
        seen: list[tuple[str, str]] = []
        following: str | None = ""
        pages = 0
        while following is not None:
            status, page = public_get(f"/offers?order={order}&limit=2{following}")
            assert status == 200
            seen += [(row["price_per_gpu_hour"], row["id"]) for row in page["items"]]
            cursor, pages = page["next_cursor"], pages + 1
            following = f"&cursor={cursor}" if cursor else None
            if pages == 1:
                make_supply(1, price=int(0.5 * USD))  # before, in between or behind: never twice
        ids = [identifier for _, identifier in seen]
        assert len(ids) == len(set(ids)) >= 9
        sign = -1 if order == "-price" else 1
        key = [(sign * float(price), identifier) for price, identifier in seen]
        if "price" in order:
            assert key == sorted(key)
        else:
            assert ids == sorted(ids)
        first = public_get(f"/offers?order={order}&limit=1")[1]["next_cursor"]
        assert public_get(f"/offers?order={order}&gpus=1&cursor={first}")[0] == 400
        Offer.objects.filter(price_micro_h=int(0.5 * USD)).update(state="ended")


def test_a_row_has_every_column_and_says_null_where_nothing_was_measured(supplies):
    row = public_get(f"/offers?accelerator={H100}&gpus=2&min_disk_gib=300")[1]["items"][0]
    assert row["id"] == supplies["big"].offer.public_id
    assert (row["gpus_available"], row["largest_block"], row["gpus"]) == (16, 8, 2)
    assert (row["price_per_gpu_hour"], row["all_in_per_hour"]) == ("2.0000", "4.0000")
    assert (row["vcpus"], row["ram_gib"], row["disk_gib"]) == (32, 128, 400)
    assert (row["cuda_max"], row["driver"], row["interconnect"]) == ("12.9", "575.57", "nvlink")
    assert (row["sharing_mode"], row["partition"]) == ("whole", None)
    part = public_get("/offers?sharing_mode=partition")[1]["items"][0]
    assert (part["sharing_mode"], part["partition"]) == ("partition", "1g.10gb")
    assert part["interconnect"] is None  # parts do not reach each other over their cards' links
    assert row["fingerprint"] != part["fingerprint"]
    for name in ("net_down_mbps", "net_up_mbps", "benchmark", "disk_kind"):
        assert row[name] is None
    assert row["reliability"] == {"value": None, "sample": 0}
    assert "2.0000 USD" in row["why_here"]
    assert row["ssh"] is True
    assert public_get(f"/offers/{row['id']}")[1]["id"] == row["id"]
    assert public_get(f"/offers/{row['id']}?gpus=1")[0] == 400
    assert public_get("/offers/ofr_nonsense")[0] == 404


def test_what_is_not_on_sale_is_not_listed(supplies):
    draft = make_supply(1, price=None)
    assert public_get(f"/offers/{draft.offer.public_id}")[0] == 404
    big = supplies["big"]
    for change in (
        lambda: Offer.objects.filter(pk=big.offer.pk).update(state="paused"),
        lambda: type(big.provider).objects.filter(pk=big.provider.pk).update(state="suspended"),
        lambda: type(big.group).objects.filter(pk=big.group.pk).update(listed_ok=False),
    ):
        change()
        listed = {row["id"] for row in public_get("/offers")[1]["items"]}
        assert big.offer.public_id not in listed
        shown = public_get(f"/offers/{big.offer.public_id}")[1]
        assert shown["gpus_available"] == 0
        Offer.objects.filter(pk=big.offer.pk).update(state="active")
        type(big.provider).objects.filter(pk=big.provider.pk).update(state="approved")
        type(big.group).objects.filter(pk=big.group.pk).update(listed_ok=True)


def test_a_page_is_one_query_however_many_rows(supplies):
    with CaptureQueriesContext(connection) as queries:
        search(parse({"gpus": ["1"]}))
    assert len(queries) == 1


def test_accelerators_and_places(supplies):
    cards = {row["slug"]: row for row in public_get("/accelerators?limit=200")[1]["items"]}
    assert (cards[H100]["in_stock"], cards[H100]["from_price"]) == (20, "2.0000")
    assert (cards["amd-mi300x"]["in_stock"], cards["amd-mi300x"]["from_price"]) == (0, None)
    assert cards["ascend-910b"]["toolkit"] == "cann"
    assert (cards[H100]["sharing_modes"], cards[H100]["partition"]) == (["whole"], None)
    assert (cards[PART]["sharing_modes"], cards[PART]["partition"]) == (["partition"], "1g.10gb")
    assert cards[PART]["in_stock"] == 7
    regions = {row["id"] for row in public_get("/regions")[1]["items"]}
    assert regions == {"eu-central", "us-east", "ap-southeast", "ap-northeast"}
    places = public_get("/datacenters")[1]["items"]
    assert len(places) == 5
    assert all(place["storage"] == "none" for place in places)


def test_curated_templates_are_there_and_pinned():
    rows = {row["slug"]: row for row in public_get("/templates")[1]["items"]}
    assert set(rows) >= {"ubuntu", "pytorch", "vllm", "comfyui", "jupyter", "open-sora"}
    assert all("@sha256:" in row["image"] for row in rows.values())
    assert rows["ubuntu"]["needs"] == {}
    assert public_get("/templates/ubuntu")[1] == rows["ubuntu"]
    assert public_get("/templates/nothing")[0] == 404


def test_performance_orders_by_the_benchmark_and_pages_through_ties_and_unmeasured(supplies):
    everything = [row["id"] for row in public_get("/offers?limit=200")[1]["items"]]
    groups = list(Offer.objects.order_by("id").values_list("group_id", flat=True))
    for group, score in zip(groups, (50.5, 120.0, 120.0), strict=False):
        DeviceGroup.objects.filter(pk=group).update(score=score, disk_kind="ssd")
    seen, cursor = [], ""
    while True:
        page = public_get(f"/offers?order=performance&limit=1{cursor}")[1]
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(row["id"] for row in seen) == sorted(everything)
    scores = [row["benchmark"] for row in seen]
    assert scores[:3] == [120.0, 120.0, 50.5]
    assert set(scores[3:]) <= {None}
    assert seen[0]["disk_kind"] == "ssd"
    assert "120" in seen[0]["why_here"]


def test_offers_of_a_cluster_on_probation_are_new_until_it_is_over(supplies):
    cluster = Cluster.objects.filter(groups=supplies["small"].offer.group_id)
    cluster.update(probation_from=now())
    publish.sync_offers()
    new = [row["id"] for row in public_get("/offers?tier=new")[1]["items"]]
    assert new == [supplies["small"].offer.public_id]
    assert new[0] not in str(public_get("/offers?tier=standard")[1])
    Offer.objects.filter(group=supplies["big"].offer.group_id).update(tier="gold")
    cluster.update(probation_ended_at=now())
    publish.sync_offers()
    assert public_get("/offers?tier=new")[1]["items"] == []
    assert new[0] in str(public_get("/offers?tier=standard")[1])
    assert len(public_get("/offers?tier=gold")[1]["items"]) == 1  # staff's word stays


def test_who_wants_a_card_is_never_quoted_a_part_of_one(supplies):
    """The part is the cheapest of all, by far."""
    renter = make_renter()

    def quoted(**requirement: Any) -> str:
        body = {"requirement": {"gpus": 1, **requirement}}
        status, quote = renter.call("POST", "/quotes", body)
        assert status == 201, quote
        return str(quote["offer"])

    part = supplies["part"].offer.public_id
    assert quoted() != part
    assert quoted(vendor="nvidia") == supplies["small"].offer.public_id
    assert quoted(accelerator=H100) == supplies["big"].offer.public_id
    assert quoted(accelerator=PART) == quoted(sharing_mode="partition") == part
    status, quote = renter.call("POST", "/quotes", {"offer": part, "gpus": 7})
    assert (status, quote["accelerator"], quote["gpus"]) == (201, PART, 7)
    wrong = {"gpus": 1, "region": "ap-northeast"}
    status, problem = renter.call("POST", "/quotes", {"requirement": wrong})
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    named = {change["field"] for item in problem["relaxations"] for change in item["changes"]}
    assert named == {"region"}, "parts are not what was asked for, so they are not suggested"


def test_a_filter_for_parts_that_finds_none_says_that_there_are_cards(supplies):
    renter = make_renter()
    body = {"requirement": {"gpus": 1, "sharing_mode": "partition", "vendor": "huawei"}}
    status, problem = renter.call("POST", "/quotes", body)
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    changes = [item["changes"] for item in problem["relaxations"]]
    assert [{"field": "sharing_mode", "from": "partition", "to": "whole"}] in changes
