"""What an owner reads of the kinds of cards in a cluster."""

from __future__ import annotations

from kernel.ids import public
from marketplace.catalog import publish
from provisioner.inventory.summary import refresh
from provisioner.models import DeviceGroup, Node, NodeShare, Slot
from tests import market
from tests.area.marketplace_portal.visitors import Visitor


def like(group: DeviceGroup, **more: str) -> DeviceGroup:
    """Another group of the same cluster that differs in ``more``."""
    before = {field.attname: getattr(group, field.attname) for field in DeviceGroup._meta.fields}
    counts = {"slots_total": 0, "slots_free": 0, "largest_block": 0}
    return DeviceGroup.objects.create(
        **{**{name: v for name, v in before.items() if name != "id"}, **counts, **more}
    )


def test_a_mixed_node_is_named_whole_with_why_some_of_it_is_not_sold(
    provider: Visitor, supply: market.Supply
) -> None:
    node = Node.objects.filter(cluster=supply.cluster).order_by("name")[0]
    part = like(supply.group, accelerator=market.PART, sharing_mode="partition")
    share = NodeShare.objects.create(
        node=node, group=part, resource_name="nvidia.com/mig-1g.10gb", slots_total=1, slots_free=1
    )
    Slot.objects.create(share=share, number=0)
    why = "nvidia.com/gpu.shared counts shares of cards, which have no memory of their own."
    Node.objects.filter(pk=node.pk).update(detail=why)
    page = provider.get(f"/provider/clusters/{public('cluster', supply.cluster.pk)}").text
    assert "NVIDIA H100 80GB SXM · NVIDIA H100 80GB SXM MIG 1g.10gb" in page
    assert why in page, "the node is ready, and its owner reads it all the same"
    assert ">not sold<" not in page, "the rest of it is"


def test_cards_that_left_an_offer_wait_for_a_price_that_names_it(
    provider: Visitor, supply: market.Supply
) -> None:
    moved = like(supply.group, driver="580.1")
    NodeShare.objects.filter(group=supply.group).update(group=moved)
    refresh()
    publish.sync_offers()
    page = provider.get("/provider/offers").text
    old = supply.offer.public_id
    assert f"has no price yet; like {old}, but driver 580.1 instead of 575.57" in page
    type(supply.group).objects.filter(pk=supply.group.pk).update(
        slots_total=0, slots_free=0, largest_block=0
    )
    status, offers = supply.owner.call("GET", "/provider/offers")
    assert status == 200
    left = {offer["id"]: offer for offer in offers["items"]}[old]
    assert left["state"] == "active"
    assert left["reason"].startswith("No node has such cards now")
    assert (left["fingerprint"], left["interconnect"]) != (None, None)
