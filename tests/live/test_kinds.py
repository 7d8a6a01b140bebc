"""Kinds of cards on two real control planes: what is offered, what is refused, what drift does.

Loops run with the periods of the beat table, so what is measured is what an owner would wait.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from config.schedules import BEAT
from devstack.kube.api import MERGE, STRATEGIC_MERGE
from devstack.kube.simclient import Sim
from devstack.kube.stack import KubeStack
from devstack.state import State
from kernel.ids import new_id, public
from marketplace.catalog import publish
from marketplace.models import DataCenter, Offer, Provider
from provisioner import facade
from provisioner.contracts import AddressBinding
from provisioner.facade import homogeneity
from provisioner.inventory import summary
from provisioner.reconcile import instance_loop, node_loop, observe
from tests.live.pods import find
from tests.live.provider import end, look, now, reaches, rent
from tests.market import Renter, make_renter, public_get

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MINUTE = 60
H100, PART = "nvidia-h100-80gb-sxm", "nvidia-h100-80gb-sxm-mig-1g.10gb"
MACHINE = {"cpu": 192, "memory_gib": 2048, "disk_gib": 28000}
FLEETS: dict[str, list[dict[str, Any]]] = {
    "dc-mixed": [
        {
            "card": "h100-sxm",
            "cards": 4,
            "also": [{"card": "h100-1g", "cards": 14}, {"card": "ascend-910b3", "cards": 2}],
            **MACHINE,
        },
        {"card": "rtx-4090", "nodes": 2, "cards": 4, **MACHINE},
    ],
    "dc-other": [
        {"card": "mi300x", "cards": 8, **MACHINE},
        {"card": "ascend-910b3", "cards": 8, **MACHINE},
    ],
}
MIXED = "dc-mixed-h100-sxm-01"
DOUBLED = "dc-other-ascend-910b3-01"


_LOOPS: dict[str, Callable[[], Any]] = {
    "inventory": node_loop.run,
    "observe": observe.run,
    "summaries": summary.refresh,
    "publish": publish.sync_offers,
    "instances": lambda: instance_loop.run(seconds=0.2),
}


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, Any]]:
    with State.temporary("kinds") as state:
        files = {}
        for name, groups in FLEETS.items():
            file = state.path / f"{name}.json"
            file.write_text(json.dumps(groups))
            files[name] = str(file)
        stack = KubeStack(state.path / "kube", names=list(FLEETS), fleets=files, heartbeat_s=1.0)
        stack.start()
        try:
            yield stack.clusters
        finally:
            stack.stop()


class Market:
    """One owner with both clusters on sale, and the platform's clockwork."""

    def __init__(self, clusters: dict[str, Any]) -> None:
        self.owner: Renter = make_renter("Owner", credit=0)
        self.provider = Provider.objects.create(
            organization=self.owner.principal.org,
            state=Provider.State.APPROVED,
            ownership="partner",
            contact_email="owner@example.com",
        )
        self.ids = {name: self._join(kube) for name, kube in clusters.items()}
        look()
        publish.sync_offers()

    def _join(self, kube: Any) -> UUID:
        place = DataCenter.objects.create(
            provider=self.provider, name=kube.name, region=f"r-{kube.name}", country="DE"
        )
        port = int(kube.api_url.rpartition(":")[2].strip("/"))
        with transaction.atomic():
            facade.register_cluster(
                cluster_id=(key := new_id()),
                name=kube.name,
                provider_ref=self.provider.id,
                datacenter_ref=place.id,
                api_url=kube.api_url,
                ca_pem=kube.ca_pem,
                token=kube.token,
                binding=AddressBinding(("127.0.0.0/8",), (port,)),
            )
        return key

    def offers(self) -> list[dict[str, Any]]:
        """As the owner sees them."""
        status, page = self.owner.call("GET", "/provider/offers?limit=200")
        assert status == 200, page
        rows: list[dict[str, Any]] = page["items"]
        return rows

    def sell_all(self) -> None:
        for number, offer in enumerate(Offer.objects.filter(state="draft")):
            with transaction.atomic():
                publish.set_offer(
                    acting=self.owner.principal,
                    offer_id=offer.public_id,
                    price_micro_h=1_000_000 + number,
                    state="active",
                )

    def nodes(self, name: str) -> dict[str, dict[str, Any]]:
        cluster = public("cluster", self.ids[name])
        status, page = self.owner.call("GET", f"/provider/clusters/{cluster}/nodes?limit=200")
        assert status == 200, page
        return {row["name"]: row for row in page["items"]}

    def until(self, condition: Callable[[], Any], what: str) -> float:
        """Seconds until ``condition()`` at worst: every loop has just run, and runs again when the
        beat table has it due."""
        began = time.monotonic()
        due = {name: began + BEAT[name]["schedule"] for name in _LOOPS}
        while not condition():
            waited = time.monotonic() - began
            assert waited < 2 * MINUTE, f"not seen: {what}"
            for name, loop in _LOOPS.items():
                if time.monotonic() >= due[name]:
                    loop()
                    due[name] = time.monotonic() + BEAT[name]["schedule"]
            time.sleep(0.1)
        took = time.monotonic() - began
        print(f"{what}: {took:.1f} s of {MINUTE}")
        return took


@pytest.fixture
def market(clusters) -> Iterator[Market]:
    for name in FLEETS:
        Sim(clusters[name].sim_control_url).clear()
    made = Market(clusters)
    made.sell_all()
    yield made
    for name in FLEETS:
        Sim(clusters[name].sim_control_url).clear()


def listed(text: str = "") -> list[dict[str, Any]]:
    status, page = public_get(f"/offers?limit=200{text}")
    assert status == 200, page
    rows: list[dict[str, Any]] = page["items"]
    return rows


def kinds(rows: list[dict[str, Any]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in rows:
        found[row["accelerator"]] += row["gpus_available"]
    return dict(found)


def test_two_vendors_and_a_mixed_node_are_the_right_offers(clusters, market) -> None:
    assert kinds(listed()) == {H100: 4, "nvidia-rtx-4090": 8, "amd-mi300x": 8, "ascend-910b": 10}
    ascend = listed("&accelerator=ascend-910b")
    assert sorted(row["gpus_available"] for row in ascend) == [2, 8]
    assert {row["region"] for row in ascend} == {"r-dc-mixed", "r-dc-other"}
    # Parts answer who asked for them, and never for their cards.
    assert kinds(listed("&vendor=nvidia")) == {H100: 4, "nvidia-rtx-4090": 8}
    (part,) = listed("&sharing_mode=partition")
    assert (part["accelerator"], part["partition"], part["memory_gib"]) == (PART, "1g.10gb", 10)
    assert part["gpus_available"] == part["largest_block"] == 14
    rows = [*listed(), part]
    # Two offers in two clusters are one kind, in everything that a renter could tell apart.
    assert len({row["fingerprint"] for row in ascend}) == 1
    assert (len(rows), len({row["fingerprint"] for row in rows})) == (6, 5)
    node = market.nodes("dc-mixed")[MIXED]
    assert (node["slots"], node["accelerators"]) == (20, ["ascend-910b", H100, PART])
    # Four whole cards, two in sevenths and two of another maker share the machine by eighths.
    whole = next(row for row in rows if row["accelerator"] == H100)
    assert whole["vcpus"] == 23.5
    assert part["vcpus"] == 3.0


@pytest.mark.parametrize(
    ("slug", "resource"),
    [
        (H100, "nvidia.com/gpu"),
        (PART, "nvidia.com/mig-1g.10gb"),
        ("ascend-910b", "huawei.com/Ascend910"),
    ],
)
def test_each_kind_of_a_mixed_node_runs_and_is_certified(clusters, market, slug, resource) -> None:
    cluster = facade.clusters(ids=[market.ids["dc-mixed"]])[0]
    (group,) = [
        group
        for group in facade.groups(provider_ref=market.provider.id)
        if (group.cluster_id, group.accelerator) == (cluster.id, slug)
    ]
    view = rent(cluster, slug, 2, groups=(group.id,))
    reaches(view, "ready", listing=True)
    assert view.node == MIXED
    pod = find(clusters["dc-mixed"].admin(), view.namespace, view.pod_name)
    assert pod is not None
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits[resource] == "2"
    assert len([name for name in limits if "/" in name]) == 1
    found = homogeneity.certificate(rental_refs=[view.rental_ref])
    assert (found.homogeneous, found.differences) == (True, ())
    offer = Offer.objects.select_related("group").get(group_id=group.id)
    assert found.machines[0].fingerprint == homogeneity.fingerprint(offer.group)
    assert len(found.machines[0].cards) == 2
    end(view)
    reaches(view, "gone", listing=True)


@pytest.mark.campaign
def test_a_model_under_two_names_is_refused_with_the_reason(clusters, market) -> None:
    api = clusters["dc-other"].admin()

    def offer_as(name: str, count: str | None) -> None:
        both = {"capacity": {name: count}, "allocatable": {name: count}}
        api.patch(f"/api/v1/nodes/{DOUBLED}/status", {"status": both}, MERGE)

    offer_as("huawei.com/Ascend910B3", "8")
    try:
        took = market.until(
            lambda: not kinds(listed("&region=r-dc-other")).get("ascend-910b"),
            "a card under a second name is not sold any more",
        )
        assert took < MINUTE
        reason = market.nodes("dc-other")[DOUBLED]["reason"]
        assert "huawei.com/Ascend910 and huawei.com/Ascend910B3: keep one" in reason
    finally:
        offer_as("huawei.com/Ascend910B3", None)


def test_a_lost_card_is_off_sale_within_a_minute(clusters, market) -> None:
    sim = Sim(clusters["dc-other"].sim_control_url)
    sim.order("lost_gpu", match={"node": "dc-other-mi300x-01"}, params={"cards": 3})
    took = market.until(
        lambda: kinds(listed("&vendor=amd"))["amd-mi300x"] == 5, "three lost cards are off sale"
    )
    assert took < MINUTE


@pytest.mark.campaign
def test_a_node_that_lies_is_off_sale_as_soon_as_a_proof_says_so(clusters, market) -> None:
    sim = Sim(clusters["dc-mixed"].sim_control_url)
    sim.order("wrong_model", match={"node": MIXED})
    cluster = facade.clusters(ids=[market.ids["dc-mixed"]])[0]
    view = rent(cluster, PART, 1)
    took = market.until(
        lambda: kinds(listed("&sharing_mode=partition"))[PART] == 0,
        "parts that are something else are off sale, from the order on",
    )
    assert took < MINUTE
    assert now(view).reason == "order_mismatch"
    assert "Cards of another model" in market.nodes("dc-mixed")[MIXED]["reason"]
    assert kinds(listed())[H100] == 4, "the node's other kinds were not found wrong"


@pytest.mark.campaign
def test_a_driver_that_drifts_is_a_draft_within_a_minute_and_rentals_go_on(
    clusters, market
) -> None:
    api, cluster = clusters["dc-mixed"].admin(), facade.clusters(ids=[market.ids["dc-mixed"]])[0]
    view = rent(cluster, "nvidia-rtx-4090", 1)
    reaches(view, "ready", listing=True)
    before = homogeneity.certificate(rental_refs=[view.rental_ref])
    (sold,) = listed("&accelerator=nvidia-rtx-4090")
    assert sold["driver"] == "550.54.15"

    def label(major: str) -> None:
        changed = {"metadata": {"labels": {"nvidia.com/cuda.driver.major": major}}}
        api.patch(f"/api/v1/nodes/{view.node}", changed, STRATEGIC_MERGE)

    label("570")
    try:
        took = market.until(
            lambda: any(
                offer["driver"] == "570.54.15" and offer["gpus_total"] == 4
                for offer in market.offers()
            ),
            "a node with another driver waits for its owner's price",
        )
        assert took < MINUTE
        (draft,) = [offer for offer in market.offers() if offer["state"] == "draft"]
        assert (draft["price_per_gpu_hour"], draft["gpus_available"]) == (None, 3)
        assert draft["reason"] == (
            f"has no price yet; like {sold['id']}, but driver 570.54.15 instead of 550.54.15"
        )
        # Sold as before is only what is as before: the other node, under its own fingerprint.
        (still,) = listed("&accelerator=nvidia-rtx-4090")
        assert (still["id"], still["gpus_available"]) == (sold["id"], 4)
        assert still["fingerprint"] == sold["fingerprint"] != draft["fingerprint"]
        # Who runs there goes on, certified as proven.
        look()
        assert now(view).state == "ready"
        assert homogeneity.certificate(rental_refs=[view.rental_ref]) == before
    finally:
        label("550")
    market.until(
        lambda: listed("&accelerator=nvidia-rtx-4090")[0]["gpus_available"] == 7,
        "the label that came back is sold as before",
    )
    end(view)
    reaches(view, "gone", listing=True)
