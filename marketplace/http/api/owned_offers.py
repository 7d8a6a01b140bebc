"""The offers of a provider, as their owner sees and sets them."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.catalog import publish
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.catalog import Reliability
from marketplace.http.api.fields import MoneyIn
from marketplace.http.api.schema import paged
from marketplace.models import Offer
from provisioner.contracts.supply import LEAST_MBPS, MOST_MBPS, Egress

_TIMES: Final = ("windows", "ends_at")
_NETWORK: Final = ("egress", "bandwidth_mbps")


class OfferChange(Body):
    price_per_gpu_hour = MoneyIn(required=False)
    interruptible_price_per_gpu_hour = MoneyIn(
        required=False,
        allow_null=True,
        help_text="For rentals that may be interrupted; null: none are offered",
    )
    disk_price = MoneyIn(
        required=False,
        zero=True,
        help_text="Per GiB and month, for all new volumes in the offer's data centre",
    )
    min_gpus = serializers.IntegerField(min_value=1, max_value=1024, required=False)
    state = serializers.ChoiceField(Offer.State.values, required=False)
    windows = serializers.JSONField(
        required=False,
        allow_null=True,
        help_text='Hours of the week: {"timezone": "Europe/Berlin", "weekly": [{"days": ["mon"], '
        '"from": "20:00", "to": "08:00"}]}; null: always. For new quotes only',
    )
    ends_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="For new quotes only; null: no end"
    )

    egress = serializers.ChoiceField(
        list(Egress),
        required=False,
        help_text="What machines reach that start from now on; less than internet needs the "
        "bundle's policies",
    )
    bandwidth_mbps = serializers.IntegerField(
        min_value=LEAST_MBPS,
        max_value=MOST_MBPS,
        required=False,
        allow_null=True,
        help_text="Each way, kept by the cluster's own network; null: no cap",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("give at least one field to change")
        withdrawn = attrs.get("interruptible_price_per_gpu_hour", 0) is None
        return {**attrs, "interruptible_price_per_gpu_hour": 0} if withdrawn else attrs


class OwnedOfferOut(serializers.Serializer[Any]):
    """What ``catalog.publish.describe_owned`` renders."""

    id = serializers.CharField()
    accelerator = serializers.CharField()
    vendor = serializers.CharField()
    memory_gib = serializers.IntegerField()
    driver = serializers.CharField(allow_null=True)
    cuda_max = serializers.CharField(allow_null=True)
    sharing_mode = serializers.CharField()
    partition = serializers.CharField(allow_null=True)
    interconnect = serializers.CharField(allow_null=True)
    fingerprint = serializers.CharField()
    verified = serializers.BooleanField()
    ssh = serializers.BooleanField(help_text="Renters can get in: the cluster has a relay")
    cluster = serializers.CharField()
    datacenter = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    ownership = serializers.CharField()
    gpus_total = serializers.IntegerField()
    gpus_available = serializers.IntegerField()
    largest_block = serializers.IntegerField()
    vcpus_per_gpu = serializers.FloatField()
    ram_gib_per_gpu = serializers.FloatField()
    disk_gib_per_gpu = serializers.FloatField()
    price_per_gpu_hour = serializers.CharField(allow_null=True)
    interruptible_price_per_gpu_hour = serializers.CharField(allow_null=True)
    disk_price = serializers.CharField()
    currency = serializers.CharField()
    min_gpus = serializers.IntegerField()
    windows = serializers.DictField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)
    egress = serializers.ChoiceField(list(Egress))
    bandwidth_mbps = serializers.IntegerField(allow_null=True)
    opens_at = serializers.DateTimeField(
        allow_null=True, help_text="When it is for rent next; null: it is now, or never again"
    )
    closes_at = serializers.DateTimeField(
        allow_null=True, help_text="Until when, windows, end date and maintenance together"
    )
    state = serializers.ChoiceField(Offer.State.values)
    reason = serializers.CharField(allow_null=True)
    actions = serializers.ListField(child=serializers.CharField())
    listed = serializers.BooleanField()
    reliability = Reliability()
    created_at = serializers.DateTimeField()
    version = serializers.IntegerField()


class OwnedOffers(ApiView):
    """Offers derived from the provider's clusters, drafts included."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(OwnedOfferOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = publish.list_offers(self.principal(request))
        return self.page(request, rows, publish.describe_owned)


class OwnedOffer(ApiView):
    """Price, least order and state of one offer. A new price touches new quotes only."""

    scopes = {"PATCH": "provider:write"}

    @extend_schema(request=OfferChange, responses={200: OwnedOfferOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(OfferChange)
        return self.change(
            lambda: publish.set_offer(
                acting=principal,
                offer_id=id,
                price_micro_h=data.get("price_per_gpu_hour"),
                interruptible_price_micro_h=data.get("interruptible_price_per_gpu_hour"),
                disk_price_micro_gib_month=data.get("disk_price"),
                min_gpus=data.get("min_gpus"),
                state=data.get("state"),
                times={name: data[name] for name in _TIMES if name in data},
                network={name: data[name] for name in _NETWORK if name in data},
                expected_version=self.expected_version(request),
            ),
            lambda offer: (200, publish.describe_owned(offer)),
        )


urls = [
    path("provider/offers", OwnedOffers.as_view()),
    path("provider/offers/<str:id>", OwnedOffer.as_view()),
]
