"""Links to ports of a rental: addresses that open them for whoever has them."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, Shown
from marketplace.rentals import ports


class LinkIn(Body):
    port = serializers.IntegerField(min_value=1, max_value=65535)
    replace = Flag(
        required=False,
        help_text="A new token: links and cookies of all the rental's ports open nothing any more",
    )


class LinkOut(Shown):
    url = serializers.CharField(
        allow_null=True,
        help_text="With ?token= where the port is for whoever has the token. Null when a POST is "
        "repeated",
    )


class Links(ApiView):
    """Addresses of a rental's ports to open or to give away."""

    scopes = {"POST": "rentals:write"}

    @extend_schema(request=LinkIn, responses={201: LinkOut})
    def post(self, request: Request, rental_id: str) -> HttpResponse:
        """Make a link to a port. The only answer with the rental's token in it."""
        principal, data = self.principal(request), self.body(LinkIn)
        return self.act(
            request,
            lambda: ports.link(
                acting=principal,
                rental_id=rental_id,
                port=data["port"],
                replace=data.get("replace", False),
            ),
            lambda url: (201, {"url": url}),
            secret_fields=["url"],
        )


urls = [path("rentals/<str:rental_id>/links", Links.as_view())]
