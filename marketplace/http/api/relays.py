"""What a provider gives to the relay of a cluster, by which renters reach their machines."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, Shown
from marketplace.providers import onboard


class RelayIn(Body):
    """replace: give it another key; the relay that has the old one is sent away within seconds."""

    replace = Flag(required=False, default=False)


class RelayOut(Shown):
    """The values of the Secret in deploy/provider/relay.yaml, and its image."""

    cluster = serializers.CharField()
    gateway = serializers.CharField(allow_null=True, help_text="host:port")
    relay_seed = serializers.CharField(
        allow_null=True, help_text="32 bytes in base64: a secret, null in a repeated answer"
    )
    gateway_key = serializers.CharField(help_text="The gateway's host key, one line")
    image = serializers.CharField()


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
            lambda: onboard.relay_values(acting=principal, cluster_id=id, replace=data["replace"]),
            lambda values: (200, RelayOut(values).data),
            secret_fields=("relay_seed",),
        )


urls = [path("provider/clusters/<str:id>/relay", Relay.as_view())]
