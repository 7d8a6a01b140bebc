"""Nodes that their owner takes off sale: no new rental, nothing that runs ends, until put back."""

from __future__ import annotations

import pytest
from django.db import transaction

from kernel.errors import NotFound
from kernel.ids import new_id, public
from provisioner import facade
from provisioner.contracts import NoCandidate
from provisioner.facade import supply as door
from provisioner.inventory import summary
from provisioner.models import DeviceGroup, NodeShare
from tests.area.provisioner.test_quarantine import collected, gpu_node
from tests.area.provisioner.yard import make_yard, rent, row_of
from tests.market import make_supply

pytestmark = pytest.mark.django_db

H100 = ("NVIDIA-H100-80GB-HBM3", 81559)


def test_no_inventory_puts_it_back_before_its_owner_does(cluster) -> None:
    yard = make_yard(nodes=0)
    share = collected(cluster, gpu_node(*H100))
    assert share.sellable
    with transaction.atomic():
        door.cordon(cluster_id=yard.cluster.pk, node_id=share.node_id)
    summary.refresh()
    assert not NodeShare.objects.get(pk=share.pk).sellable
    assert DeviceGroup.objects.get(pk=share.group_id).slots_free == 0
    again = collected(cluster, gpu_node(*H100))
    assert not again.sellable
    (node,) = facade.nodes(cluster_id=yard.cluster.pk)
    assert "You took it off sale" in node.reason
    assert node.cordoned_at is not None
    with transaction.atomic():
        door.uncordon(cluster_id=yard.cluster.pk, node_id=share.node_id)
    assert collected(cluster, gpu_node(*H100)).sellable


def test_what_runs_there_goes_on() -> None:
    yard = make_yard(cards=4)
    view = rent(yard, 2)
    for _ in range(2):
        with transaction.atomic():
            door.cordon(cluster_id=yard.cluster.pk, node_id=view.node_id)
    summary.refresh()
    assert row_of(view).desired == "run"
    with pytest.raises(NoCandidate):
        rent(yard)


def test_a_node_of_another_cluster_is_not_found() -> None:
    view = rent(make_yard(cards=4), 1)
    for change in (door.cordon, door.uncordon):
        with pytest.raises(NotFound), transaction.atomic():
            change(cluster_id=new_id(), node_id=view.node_id)


def test_over_the_api() -> None:
    supply = make_supply(2)
    share = NodeShare.objects.get(group=supply.group)
    path = f"/provider/clusters/{public('cluster', supply.cluster.pk)}/nodes"
    node = f"{path}/{public('node', share.node_id)}"
    status, shown = supply.owner.call("POST", f"{node}/cordon")
    assert (status, shown["actions"], shown["slots_free"]) == (200, ["uncordon"], 0)
    assert shown["cordoned_at"]
    status, shown = supply.owner.call("POST", f"{node}/uncordon")
    assert (status, shown["actions"], shown["cordoned_at"]) == (200, ["cordon"], None)
