"""Nodes with several kinds of cards in the tables: seats, reasons, and what a label moves."""

from __future__ import annotations

from typing import Any

import pytest

from kernel import clock
from provisioner import facade
from provisioner.inventory import summary
from provisioner.inventory.homogeneity import fingerprint
from provisioner.models import ClusterLoop, DeviceGroup, Instance, NodeShare
from provisioner.reconcile import node_loop
from provisioner.reconcile.steps import spec_of
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.test_loops import full_list, loop
from tests.area.provisioner.yard import Yard, make_yard, rent, row_of
from tests.unit.provisioner.test_nodes import node_json
from tests.unit.provisioner.test_partitions import MIG_1G, MIXED, PART, SINGLE

pytestmark = pytest.mark.django_db

BOTH = {"nvidia.com/gpu": 4, MIG_1G: 28}


def inventory(cluster: MemoryCluster, *nodes: dict[str, Any]) -> None:
    cluster.nodes = list(nodes)
    ClusterLoop.objects.filter(kind="inventory").update(due_at=clock.now())
    node_loop.run(cluster.connect)
    summary.refresh()


def yard_of(cluster: MemoryCluster, *nodes: dict[str, Any]) -> Yard:
    yard = make_yard(nodes=0)
    yard.group.delete()
    inventory(cluster, *nodes)
    return yard


def group(slug: str, **more: Any) -> DeviceGroup:
    return DeviceGroup.objects.get(accelerator=slug, **more)


def test_a_mixed_node_has_seats_of_each_kind_and_orders_do_not_meet(cluster) -> None:
    yard = yard_of(cluster, node_json(MIXED, BOTH))
    whole, part = group("nvidia-h100-80gb-sxm"), group(PART)
    assert (whole.slots_free, part.slots_free) == (4, 28)
    assert (whole.sharing_mode, part.sharing_mode) == ("whole", "partition")
    yard.group = part
    view = rent(yard, 3)
    summary.refresh()
    whole.refresh_from_db()
    part.refresh_from_db()
    assert (whole.slots_free, part.slots_free) == (4, 25)
    row = Instance.objects.select_related("share__node", "cluster").get(pk=view.id)
    spec = spec_of(row)
    assert (spec.resource, spec.gpus) == (MIG_1G, 3)
    assert spec.parts is not None
    assert (row.vcpus_milli, row.memory_mib) == (3 * part.vcpus_milli_per_gpu, part.memory_mib)


def test_parts_under_the_cards_own_name_are_ordered_by_that_name(cluster) -> None:
    yard = yard_of(cluster, node_json(SINGLE, {"nvidia.com/gpu": 56}))
    yard.group = group(PART)
    row = Instance.objects.select_related("share__node", "cluster").get(pk=rent(yard).id)
    assert spec_of(row).resource == "nvidia.com/gpu"


def test_why_some_of_a_node_is_not_sold_is_told_while_the_rest_is(cluster) -> None:
    yard = yard_of(cluster, node_json({**MIXED, f"{MIG_1G}.replicas": "4"}, BOTH))
    (node,) = facade.nodes(cluster_id=yard.cluster.pk)
    assert node.slots_free == 4
    assert f"{MIG_1G}.replicas=4: a share of a card" in node.reason
    inventory(cluster, node_json(MIXED, BOTH))
    (node,) = facade.nodes(cluster_id=yard.cluster.pk)
    assert (node.reason, node.slots_free) == ("", 32)
    assert node.accelerators == ("nvidia-h100-80gb-sxm", PART)


def test_a_node_of_shares_alone_says_so(cluster) -> None:
    yard = yard_of(cluster, node_json(MIXED, {"nvidia.com/gpu.shared": 40}))
    (node,) = facade.nodes(cluster_id=yard.cluster.pk)
    assert (node.slots, node.accelerators) == (0, ())
    assert node.reason.startswith("nvidia.com/gpu.shared counts shares of cards")
    assert not DeviceGroup.objects.exists()


def test_cards_that_are_split_anew_are_lost_to_who_holds_them_and_sold_to_nobody(cluster) -> None:
    """Whole cards become parts: free seats go at once, a held one is watched until it ends."""
    yard = yard_of(cluster, node_json(MIXED, {"nvidia.com/gpu": 8}))
    yard.group = group("nvidia-h100-80gb-sxm")
    view = rent(yard)
    loop(cluster)
    cluster.run_pods()
    full_list(cluster)
    assert row_of(view).state == "ready"
    inventory(cluster, node_json(MIXED, {MIG_1G: 56}))
    share = NodeShare.objects.get(resource_name="nvidia.com/gpu")
    assert (share.sellable, share.slots_total, share.slots_free) == (False, 1, 0)
    assert share.short
    assert group("nvidia-h100-80gb-sxm").slots_free == 0
    assert group(PART).slots_free == 56
    full_list(cluster)
    assert (row_of(view).state, row_of(view).reason) == ("degraded", "gpu_lost")


def test_another_driver_is_another_kind_and_takes_its_renters_along(cluster) -> None:
    labels = {**MIXED, "nvidia.com/cuda.driver.major": "570"}
    yard = yard_of(cluster, node_json(MIXED, {"nvidia.com/gpu": 8}))
    before = group("nvidia-h100-80gb-sxm")
    yard.group = before
    view = rent(yard, 2)
    loop(cluster)
    cluster.run_pods()
    full_list(cluster)
    inventory(cluster, node_json(labels, {"nvidia.com/gpu": 8}))
    after = group("nvidia-h100-80gb-sxm", driver="570.54.15")
    before.refresh_from_db()
    assert (before.slots_total, before.slots_free, before.largest_block) == (0, 0, 0)
    assert (after.slots_total, after.slots_free) == (8, 6)
    assert fingerprint(after) != fingerprint(before)
    full_list(cluster)
    assert row_of(view).state == "ready"
    inventory(cluster, node_json(MIXED, {"nvidia.com/gpu": 8}))
    before.refresh_from_db()
    assert (before.slots_total, before.slots_free) == (8, 6), "the same kind again, not a third"
    assert DeviceGroup.objects.count() == 2
