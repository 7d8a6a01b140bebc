"""What a provider gives to the relay of a cluster, by which renters reach their machines."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, Shown
from marketplace.providers import agents


class RelayIn(Body):
    """replace: give it another key; the relay that has the old one is sent away within seconds."""

    replace = Flag(required=False, default=False)


class RelayValuesOut(Shown):
    """The values of the Secret in deploy/provider/relay.yaml, and its image."""

    cluster = serializers.CharField()
    gateway = serializers.CharField(allow_null=True, help_text="host:port")
    relay_seed = serializers.CharField(
        allow_null=True, help_text="32 bytes in base64: a secret, null in a repeated answer"
    )
    gateway_key = serializers.CharField(help_text="The gateway's host key, one line")
    image = serializers.CharField()


class RelayOut(RelayValuesOut):
    enrolment_command = serializers.CharField(
        allow_null=True, help_text="With mode agent: applies all of it, good for an hour. A secret"
    )


class Relay(ApiView):
    """The relay of a cluster."""

    scopes = {"POST": "provider:write"}

    @extend_schema(request=RelayIn, responses={200: RelayOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        """Show what it needs. The answer holds a secret, which a repeat with the same key of
        the request leaves out; asked with another one it is the same."""
        principal, data = self.principal(request), self.body(RelayIn)
        return self.act(
            request,
            lambda: agents.relay_values(acting=principal, cluster_id=id, replace=data["replace"]),
            lambda found: (200, {**RelayValuesOut(found[0]).data, "enrolment_command": found[1]}),
            secret_fields=("relay_seed", "enrolment_command"),
        )


urls = [path("provider/clusters/<str:id>/relay", Relay.as_view())]
