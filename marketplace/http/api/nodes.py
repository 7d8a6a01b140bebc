"""Nodes of a provider's clusters and the cards in them."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import Principal
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import IdOut, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.providers import onboard
from provisioner import facade as provisioner
from provisioner.contracts import NodeView


class NodeOut(Shown):
    id = IdOut("node")
    name = serializers.CharField()
    ready = serializers.BooleanField()
    reason = serializers.CharField()
    accelerator = serializers.CharField(allow_null=True, help_text="Null where it has several")
    accelerators = serializers.ListField(child=serializers.CharField())
    slots = serializers.IntegerField()
    slots_free = serializers.IntegerField()
    quarantined_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is not sold: other cards were found than it says"
    )
    evidence = serializers.DictField(allow_null=True, help_text="What was found then")
    cordoned_at = serializers.DateTimeField(
        allow_null=True, help_text="Since when its owner keeps it off sale"
    )
    actions = serializers.SerializerMethodField()

    def get_actions(self, node: NodeView) -> list[str]:
        release = ["release"] if node.quarantined_at else []
        return [*release, "uncordon" if node.cordoned_at else "cordon"]


class Nodes(ApiView):
    """Nodes of a cluster that are set aside for gpuyard."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(NodeOut)})
    def get(self, request: Request, id: str) -> HttpResponse:
        cluster = onboard.own_cluster(self.principal(request), id)
        rows = provisioner.nodes(cluster_id=cluster.id)
        return self.page_of(request, rows, shown(NodeOut), key=lambda view: view.name)


class _NodeAction(ApiView):
    """What an owner does about one of its nodes: the node as it is then."""

    scopes = {"POST": "provider:write"}

    def on_node(self, request: Request, action: Callable[[Principal], NodeView]) -> HttpResponse:
        principal = self.principal(request)
        return self.act(request, lambda: action(principal), lambda view: (200, NodeOut(view).data))


class ReleaseNode(_NodeAction):
    """A node whose cards were not what its labels say, put right by its owner."""

    @extend_schema(request=None, responses={200: NodeOut})
    def post(self, request: Request, id: str, node: str) -> HttpResponse:
        """Sell it again. The check at the next start finds out."""
        place = {"cluster_id": id, "node_id": node}
        return self.on_node(request, lambda who: onboard.release_node(acting=who, **place))


class CordonNode(_NodeAction):
    """A node that its owner keeps off sale."""

    @extend_schema(request=None, responses={200: NodeOut})
    def post(self, request: Request, id: str, node: str) -> HttpResponse:
        """Take no new rentals there; those that run go on."""
        place = {"cluster_id": id, "node_id": node}
        return self.on_node(request, lambda who: onboard.cordon_node(acting=who, off=True, **place))


class UncordonNode(_NodeAction):
    """A node that was kept off sale."""

    @extend_schema(request=None, responses={200: NodeOut})
    def post(self, request: Request, id: str, node: str) -> HttpResponse:
        """Sell it again."""
        place = {"cluster_id": id, "node_id": node}
        return self.on_node(
            request, lambda who: onboard.cordon_node(acting=who, off=False, **place)
        )


class SlotOut(Shown):
    id = IdOut("slot")
    node = serializers.CharField()
    state = serializers.CharField()
    accelerator = serializers.CharField()
    device_uid = serializers.CharField(allow_null=True)


class Slots(ApiView):
    """Cards of a cluster, one row each."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(SlotOut)})
    def get(self, request: Request, id: str) -> HttpResponse:
        cluster = onboard.own_cluster(self.principal(request), id)
        rows = provisioner.slots(cluster_id=cluster.id)
        return self.page_of(request, rows, shown(SlotOut), key=lambda view: str(view.id))


_NODE = "provider/clusters/<str:id>/nodes/<str:node>"
urls = [
    path("provider/clusters/<str:id>/nodes", Nodes.as_view()),
    path(f"{_NODE}/release", ReleaseNode.as_view()),
    path(f"{_NODE}/cordon", CordonNode.as_view()),
    path(f"{_NODE}/uncordon", UncordonNode.as_view()),
    path("provider/clusters/<str:id>/slots", Slots.as_view()),
]
