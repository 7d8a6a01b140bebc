"""Where the caller's organization is taxed, its tax ids, and the rate found for them."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.tax import TaxAddress, TaxId, TaxProfileView
from billing.facade import tax as billing
from marketplace.accounts import tax
from marketplace.catalog.taxes import percent
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Shown


class TaxIdIn(Body):
    type = serializers.CharField(max_length=20)
    value = serializers.CharField(max_length=50)


class TaxProfileIn(Body):
    country = serializers.CharField(max_length=2)
    postal_code = serializers.CharField(max_length=20, default="", allow_blank=True)
    state = serializers.CharField(max_length=100, default="", allow_blank=True)
    city = serializers.CharField(max_length=100, default="", allow_blank=True)
    line1 = serializers.CharField(max_length=200, default="", allow_blank=True)
    tax_ids = TaxIdIn(many=True, required=False)


class TaxIdOut(Shown):
    type = serializers.CharField()
    value = serializers.CharField()


class TaxProfileOut(Shown):
    """tax_point: none, topup, use. rate_percent: null while it is not known. reason: Stripe's word
    for why the rate is what it is, such as standard_rated or reverse_charge."""

    tax_point = serializers.CharField()
    country = serializers.CharField(allow_null=True)
    postal_code = serializers.CharField()
    state = serializers.CharField()
    city = serializers.CharField()
    line1 = serializers.CharField()
    tax_ids = TaxIdOut(many=True)
    rate_percent = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    determined_at = serializers.DateTimeField(allow_null=True)
    failure = serializers.CharField()


def _shown(view: TaxProfileView) -> Any:
    address = view.address
    return TaxProfileOut(
        {
            "tax_point": view.point.value,
            "country": address.country if address else None,
            "postal_code": address.postal_code if address else "",
            "state": address.state if address else "",
            "city": address.city if address else "",
            "line1": address.line1 if address else "",
            "tax_ids": view.tax_ids,
            "rate_percent": None if view.ppm is None else percent(view.ppm),
            "reason": view.reason,
            "determined_at": view.determined_at,
            "failure": view.failure,
        }
    ).data


class TaxProfile(ApiView):
    """The billing address and tax ids. PUT sets all of it and asks for the tax rate."""

    scopes = {"GET": "billing:read", "PUT": "billing:write"}

    @extend_schema(responses={200: TaxProfileOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(_shown(billing.tax_profile(org_ref=self.principal(request).org.id)))

    @extend_schema(request=TaxProfileIn, responses={200: TaxProfileOut})
    def put(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(TaxProfileIn)
        ids = [TaxId(one["type"], one["value"]) for one in data.pop("tax_ids", [])]
        address = TaxAddress(**data)
        return self.change(
            lambda: tax.set_profile(acting=principal, address=address, tax_ids=ids),
            lambda view: (200, _shown(view)),
        )


urls = [path("billing/tax", TaxProfile.as_view())]
