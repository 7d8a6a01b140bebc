"""Providers: apply, clusters. Data centres are in datacenters.py, nodes and cards
in nodes.py, offers in owned_offers.py, money is in payouts.py."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.catalog import fees
from marketplace.http.api import datacenters
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import (
    IdOut,
    NameIn,
    PublicShown,
    Shown,
    StorageShown,
    shown,
)
from marketplace.http.api.schema import paged
from marketplace.models import Provider
from marketplace.providers import agents, onboard
from marketplace.providers.stages import Stage
from provisioner.contracts import ClusterMode, ClusterState, ClusterView, ReaperState
from provisioner.contracts.preflight import PreflightState

_BOTH = {"GET": "provider:read", "POST": "provider:write"}


class ProviderIn(Body):
    contact_email = serializers.EmailField(max_length=254)
    description = NameIn(max_length=500, required=False, allow_blank=True, default="")


class ProviderChange(Body):
    contact_email = serializers.EmailField(max_length=254, required=False)
    description = NameIn(max_length=500, required=False, allow_blank=True)


class ProviderOut(PublicShown):
    state = serializers.ChoiceField(Provider.State.values)
    reason = serializers.CharField()
    actions = serializers.SerializerMethodField()
    ownership = serializers.ChoiceField(Provider.Ownership.values)
    contact_email = serializers.EmailField()
    description = serializers.CharField()
    fee_bps = serializers.IntegerField(allow_null=True)
    allowed_networks = serializers.ListField(child=serializers.CharField())
    allowed_ports = serializers.ListField(child=serializers.IntegerField())
    approved_at = serializers.DateTimeField(allow_null=True)

    def get_actions(self, provider: Provider) -> list[str]:
        approved = provider.state == Provider.State.APPROVED
        return ["add_datacenter", "add_cluster"] if approved else ["add_datacenter"]


class ComingFeeOut(Shown):
    """accelerator: a card's slug or a vendor; empty for all cards and volumes."""

    accelerator = serializers.CharField(allow_blank=True)
    from_bps = serializers.IntegerField()
    to_bps = serializers.IntegerField()
    valid_from = serializers.DateTimeField()


class FeesOut(Shown):
    """What the platform keeps of what is rented now, and of what will be rented later. cards: kinds
    for which another fee holds than in general."""

    bps = serializers.IntegerField()
    cards = serializers.DictField(child=serializers.IntegerField())
    coming = ComingFeeOut(many=True)


class OwnProviderOut(ProviderOut):
    fee_bps = serializers.IntegerField(
        allow_null=True, help_text="As agreed with the approval; null: everybody's. See fees"
    )
    fees = FeesOut()

    def to_representation(self, instance: Provider) -> Any:
        instance.fees = fees.outlook(instance)  # type: ignore[attr-defined]
        return super().to_representation(instance)


class OwnProvider(ApiView):
    """The organization as a supplier of cards. POST applies; staff approve."""

    scopes = {**_BOTH, "PATCH": "provider:write"}

    @extend_schema(responses={200: OwnProviderOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(OwnProviderOut(onboard.own_provider(self.principal(request))).data)

    @extend_schema(request=ProviderIn, responses={201: OwnProviderOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(ProviderIn)
        return self.act(
            request,
            lambda: onboard.apply(
                acting=principal,
                contact_email=data["contact_email"],
                description=data["description"],
            ),
            lambda provider: (201, OwnProviderOut(provider).data),
        )

    @extend_schema(request=ProviderChange, responses={200: OwnProviderOut})
    def patch(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(ProviderChange)
        return self.change(
            lambda: onboard.describe(
                acting=principal, changes=data, expected_version=self.expected_version(request)
            ),
            lambda provider: (200, OwnProviderOut(provider).data),
        )


class ClusterIn(Body):
    name = NameIn(max_length=60)
    datacenter = serializers.CharField(max_length=40)
    mode = serializers.ChoiceField(["direct", "agent"], default="direct")
    api_url = serializers.CharField(max_length=300, required=False)
    ca_pem = serializers.CharField(max_length=65_536, required=False, trim_whitespace=False)
    token = serializers.CharField(max_length=16_384, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        fields = ("api_url", "ca_pem", "token")
        if attrs["mode"] == ClusterMode.AGENT:
            wrong = {name: ["is not used with an agent"] for name in fields if name in attrs}
        else:
            wrong = {name: ["is required"] for name in fields if name not in attrs}
        if wrong:
            raise serializers.ValidationError(wrong)
        return attrs


class TokenIn(Body):
    token = serializers.CharField(max_length=16_384)


class ClusterOut(StorageShown):
    id = IdOut("cluster")
    name = serializers.CharField()
    datacenter = IdOut("datacenter", source="datacenter_ref")
    mode = serializers.ChoiceField([mode.value for mode in ClusterMode])
    api_url = serializers.CharField(allow_null=True, help_text="null with an agent")
    state = serializers.ChoiceField([state.value for state in ClusterState])
    reason = serializers.CharField()
    detail = serializers.CharField()
    actions = serializers.SerializerMethodField()
    state_since = serializers.DateTimeField()
    server_version = serializers.CharField(allow_null=True)
    last_observed_at = serializers.DateTimeField(allow_null=True)
    reaper = serializers.ChoiceField([state.value for state in ReaperState], source="reaper_state")
    reaper_seen_at = serializers.DateTimeField(allow_null=True)
    relay_seen_at = serializers.DateTimeField(allow_null=True)
    preflight = serializers.ChoiceField([state.value for state in PreflightState])
    preflight_at = serializers.DateTimeField(allow_null=True)
    takes_rentals = serializers.BooleanField(
        source="preflight_sells",
        help_text="Whether preflight lets it take new rentals; what runs there goes on",
    )
    stage = serializers.SerializerMethodField(help_text="On its way to being listed")
    stage_text = serializers.SerializerMethodField()
    nodes = serializers.IntegerField()
    slots = serializers.IntegerField()
    slots_free = serializers.IntegerField()

    @extend_schema_field(serializers.ChoiceField([stage.value for stage in Stage]))
    def get_stage(self, cluster: ClusterView) -> str:
        self._placed = onboard.stage_of(cluster)
        return self._placed.stage.value

    def get_stage_text(self, _: ClusterView) -> str:
        return self._placed.text  # of the field before

    def get_actions(self, cluster: ClusterView) -> list[str]:
        if cluster.state == ClusterState.RETIRED:
            return []
        token = ["replace_token"] if cluster.mode == ClusterMode.DIRECT else []
        return token if cluster.state == ClusterState.DRAINING else [*token, "preflight", "drain"]


class EnrolledOut(ClusterOut):
    """enrolment_command: with mode agent. It holds a secret, and is good for an hour."""

    enrolment_command = serializers.CharField(allow_null=True)


class Clusters(ApiView):
    """The provider's clusters. A forbidden address is refused; one that does not answer, a wrong
    token or a wrong CA is stored, and ``state``, ``reason`` and ``detail`` tell."""

    scopes = _BOTH
    lists = True

    @extend_schema(responses={200: paged(ClusterOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = onboard.clusters(self.principal(request))
        return self.page_of(request, rows, shown(ClusterOut), key=lambda view: str(view.id))

    @extend_schema(request=ClusterIn, responses={201: EnrolledOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(ClusterIn)
        if data["mode"] == ClusterMode.AGENT:
            return self.act(
                request,
                lambda: agents.add(
                    acting=principal, name=data["name"], datacenter=data["datacenter"]
                ),
                lambda made: (201, _enrolled(made.cluster, made.command)),
                secret_fields=["enrolment_command"],
            )
        order = onboard.ClusterOrder(
            name=data["name"],
            datacenter=data["datacenter"],
            api_url=data["api_url"],
            ca_pem=data["ca_pem"],
            token=data["token"],
        )
        return self.answer(
            onboard.add_cluster(
                acting=principal,
                order=order,
                claim=self.claim(request),
                render=lambda view: (201, _enrolled(view, None)),
            )
        )


def _enrolled(view: ClusterView, command: str | None) -> dict[str, Any]:
    return {**ClusterOut(view).data, "enrolment_command": command}


class OneCluster(ApiView):
    """One cluster. PATCH replaces its token; DELETE drains it: no new rentals, those that run go
    on."""

    scopes = {"GET": "provider:read", "PATCH": "provider:write", "DELETE": "provider:write"}

    @extend_schema(responses={200: ClusterOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(ClusterOut(onboard.own_cluster(self.principal(request), id)).data)

    @extend_schema(request=TokenIn, responses={200: ClusterOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(TokenIn)
        return self.change(
            lambda: onboard.replace_token(acting=principal, cluster_id=id, token=data["token"]),
            lambda view: (200, ClusterOut(view).data),
        )

    @extend_schema(responses={202: ClusterOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: onboard.drain_cluster(acting=principal, cluster_id=id),
            lambda view: (202, ClusterOut(view).data),
        )


urls = [
    path("provider", OwnProvider.as_view()),
    *datacenters.urls,
    path("provider/clusters", Clusters.as_view()),
    path("provider/clusters/<str:id>", OneCluster.as_view()),
]
