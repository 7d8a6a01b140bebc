"""The data centres of a provider."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import visible
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import NameIn, PublicShown, shown
from marketplace.http.api.schema import paged
from marketplace.models import DataCenter
from marketplace.providers import onboard


class DataCenterIn(Body):
    name = NameIn(max_length=60)
    region = serializers.CharField(max_length=40)
    country = serializers.CharField(max_length=2)


class DataCenterOut(PublicShown):
    name = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()


class DataCenters(ApiView):
    """The provider's data centres."""

    scopes = {"GET": "provider:read", "POST": "provider:write"}
    lists = True

    @extend_schema(responses={200: paged(DataCenterOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(
            request, visible(DataCenter, self.principal(request)), shown(DataCenterOut)
        )

    @extend_schema(request=DataCenterIn, responses={201: DataCenterOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(DataCenterIn)
        return self.act(
            request,
            lambda: onboard.add_datacenter(
                acting=principal,
                name=data["name"],
                region=data["region"],
                country=data["country"],
            ),
            lambda place: (201, DataCenterOut(place).data),
        )


urls = [path("provider/datacenters", DataCenters.as_view())]
