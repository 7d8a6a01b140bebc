"""Cards that are not what their labels say: off sale, by evidence, until they are put right."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from kernel import clock
from kernel.errors import InvalidRequest, NotFound
from kernel.ids import new_id
from kernel.text import rfc3339
from provisioner import facade
from provisioner.contracts import NoCandidate
from provisioner.facade import quarantine as door
from provisioner.inventory import summary
from provisioner.models import ClusterLoop, DeviceGroup, NodeShare
from provisioner.reconcile import decide, node_loop
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.test_loops import full_list, loop
from tests.area.provisioner.yard import Yard, add_node, make_yard, rent, row_of

pytestmark = pytest.mark.django_db


def deceived(cluster: MemoryCluster, yard: Yard, **wrong: Any) -> Any:
    """A rental whose check found something else."""
    view = rent(yard, 2)
    loop(cluster)
    cluster.run_pods(**wrong)
    full_list(cluster)
    assert row_of(view).reason == "order_mismatch"
    summary.refresh()
    return view


def share_of(view: Any) -> NodeShare:
    return NodeShare.objects.get(node__name=view.node)


@pytest.fixture
def image_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's tool is in the renter's image."""
    from dataclasses import replace

    from provisioner.inventory.accelerators import by_slug
    from provisioner.reconcile import apply

    known = {slug: (replace(f, tool="image"), m) for slug, (f, m) in by_slug().items()}
    monkeypatch.setattr(apply, "by_slug", lambda: known)


def test_a_node_that_lies_is_not_sold_again_and_its_owner_reads_why(cluster) -> None:
    yard = make_yard(cards=4)
    view = deceived(cluster, yard, missing=1)
    share = share_of(view)
    assert not share.sellable
    assert share.quarantined_at is not None
    assert share.quarantine is not None
    assert len(share.quarantine["evidence"]["devices"]) == 1
    (node,) = facade.nodes(cluster_id=yard.cluster.pk)
    assert "1 cards were found, 2 were ordered" in node.reason
    assert "release it" in node.reason
    assert node.evidence == share.quarantine
    assert node.slots_free == 0
    assert DeviceGroup.objects.get().slots_free == 0, "it is on no offer"
    with pytest.raises(NoCandidate):
        rent(yard)


def test_other_nodes_go_on_selling(cluster) -> None:
    yard = make_yard(cards=4)
    deceived(cluster, yard, missing=1)
    add_node(yard, "honest", 4)
    summary.refresh()
    assert rent(yard).node == "honest"


def test_what_a_renters_image_says_needs_two_of_them(cluster, image_tool) -> None:
    yard = make_yard(cards=4)
    first = deceived(cluster, yard, missing=1)
    assert share_of(first).quarantined_at is None
    second = deceived(cluster, yard, missing=1)
    assert share_of(second).quarantined_at is not None


def test_one_renter_cannot_take_a_node_off_sale(cluster, image_tool) -> None:
    yard, tenant = make_yard(cards=4), new_id()
    for _ in range(2):
        view = rent(yard, 2, tenant=tenant)
        loop(cluster)
        cluster.run_pods(missing=1)
        full_list(cluster)
        assert row_of(view).reason == "order_mismatch"
    assert share_of(view).quarantined_at is None


def test_two_findings_far_apart_are_two(cluster, image_tool, set_clock) -> None:
    yard = make_yard(cards=4)
    deceived(cluster, yard, missing=1)
    set_clock(rfc3339(clock.now() + timedelta(days=1, minutes=1)))
    assert share_of(deceived(cluster, yard, missing=1)).quarantined_at is None


def test_the_owner_releases_it_and_older_findings_count_no_more(cluster, image_tool) -> None:
    yard = make_yard(cards=8)
    deceived(cluster, yard, missing=1)
    view = deceived(cluster, yard, missing=1)
    share = share_of(view)
    with transaction.atomic():
        door.release(cluster_id=yard.cluster.pk, node_id=share.node_id)
    share.refresh_from_db()
    assert share.quarantined_at is None
    assert ClusterLoop.objects.filter(kind="inventory", due_at__lte=clock.now()).exists()
    NodeShare.objects.update(sellable=True)  # by the inventory, see below
    assert share_of(deceived(cluster, yard, missing=1)).quarantined_at is None
    for wrong in (share.node_id, new_id()):
        with pytest.raises((InvalidRequest, NotFound)), transaction.atomic():
            door.release(cluster_id=yard.cluster.pk, node_id=wrong)
    with pytest.raises(NotFound), transaction.atomic():
        door.release(cluster_id=new_id(), node_id=share.node_id)


def gpu_node(product: str, memory: int, driver: str = "535") -> dict[str, Any]:
    labels = {
        "gpuyard.io/pool": "rental",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/cuda.driver.major": driver,
    }
    offered = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "4Ti", "nvidia.com/gpu": "4"}
    return {
        "metadata": {"name": "liar", "uid": "liar", "labels": labels},
        "spec": {"taints": [{"key": "gpuyard.io/pool", "value": "rental", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": offered,
            "capacity": offered,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def collected(cluster: MemoryCluster, item: dict[str, Any]) -> NodeShare:
    cluster.nodes = [item]
    ClusterLoop.objects.update(due_at=clock.now(), claim_token=None, claim_until=None)
    node_loop.run(cluster.connect)
    summary.refresh()
    return NodeShare.objects.select_related("group").get(node__name="liar")


def test_an_inventory_neither_forgets_nor_outlives_it(cluster) -> None:
    """Another driver changes nothing of what the cards were found not to be; the right model
    does, and so does the owner's word."""
    make_yard(nodes=0)
    share = collected(cluster, gpu_node("NVIDIA-H100-80GB-HBM3", 81559))
    assert share.sellable
    found = {"text": "Cards of another model were found.", "evidence": {"devices": []}}
    NodeShare.objects.update(quarantined_at=clock.now(), sellable=False, quarantine=found)
    for driver in ("535", "570"):
        share = collected(cluster, gpu_node("NVIDIA-H100-80GB-HBM3", 81559, driver))
        assert not share.sellable
        assert share.quarantined_at is not None
    assert share.group.driver.startswith("570")
    share = collected(cluster, gpu_node("NVIDIA-A100-80GB-PCIe", 81920))
    assert share.sellable
    assert share.quarantined_at is None
    NodeShare.objects.update(quarantined_at=clock.now(), sellable=False)
    with transaction.atomic():
        door.release(cluster_id=share.node.cluster_id, node_id=share.node_id)
    assert collected(cluster, gpu_node("NVIDIA-A100-80GB-PCIe", 81920)).sellable


def test_a_report_that_says_nothing_is_no_evidence_by_itself() -> None:
    ended = decide.End("order_mismatch", evidence={})
    assert not ended.evidence.get("devices")
