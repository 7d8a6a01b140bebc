"""Nodes that their owner takes off sale, and puts back: what runs there goes on."""

from __future__ import annotations

from uuid import UUID

from kernel import clock
from kernel.errors import NotFound
from provisioner.clusters.register import look_again
from provisioner.models import GroupChange, Node, NodeShare


def cordon(*, cluster_id: UUID, node_id: UUID) -> None:
    """In a transaction: no new rental there from now on. Repeating it changes nothing. NotFound."""
    node = _locked(cluster_id, node_id)
    if node.cordoned_at is None:
        node.cordoned_at = clock.now()
        node.save(update_fields=["cordoned_at"])
    # In the order of their keys, like everybody who locks shares.
    for share in NodeShare.objects.select_for_update().filter(node=node).order_by("id"):
        if share.sellable:
            NodeShare.objects.filter(pk=share.pk).update(sellable=False)
            GroupChange.objects.create(group_id=share.group_id)
    look_again(cluster_id=cluster_id)


def uncordon(*, cluster_id: UUID, node_id: UUID) -> None:
    """In a transaction: on sale again with the next inventory. NotFound."""
    node = _locked(cluster_id, node_id)
    if node.cordoned_at is not None:
        node.cordoned_at = None
        node.save(update_fields=["cordoned_at"])
        look_again(cluster_id=cluster_id)


def _locked(cluster_id: UUID, node_id: UUID) -> Node:
    node = (
        Node.objects.select_for_update(no_key=True).filter(pk=node_id, cluster=cluster_id).first()
    )
    if node is None:
        raise NotFound("node")
    return node
