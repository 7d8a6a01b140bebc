"""Catalogue: accelerators, places, offers; quotes. Public but for quotes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.errors import InvalidRequest
from marketplace.catalog import quote as quotes
from marketplace.catalog import registry, search
from marketplace.catalog.query import (
    FILTERS,
    MAX_GPUS,
    OfferQuery,
    invalid_filter,
    parse_requirement,
    unknown_filter,
)
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, Shown
from marketplace.http.api.paging import parse_limit
from marketplace.http.api.schema import paged as pages

MAX_DISK_GIB = 1_000_000
PAGING = ("cursor", "limit")


class Accelerator(Shown):
    slug = serializers.CharField()
    vendor = serializers.CharField()
    name = serializers.CharField()
    memory_gib = serializers.IntegerField(help_text="Of one card, as it is sold")
    sharing_modes = serializers.ListField(child=serializers.CharField())
    partition = serializers.CharField(allow_null=True, help_text="The profile, of a part of a card")
    toolkit = serializers.CharField()
    interconnect = serializers.CharField(allow_null=True)
    in_stock = serializers.IntegerField(help_text="Cards on sale and free now")
    from_price = serializers.CharField(allow_null=True, help_text="Lowest per GPU-hour in stock")
    currency = serializers.CharField()


class Accelerators(ApiView):
    """Every accelerator the platform knows, with its stock and lowest price."""

    public = True
    lists = True

    @extend_schema(responses={200: pages(Accelerator)})
    def get(self, request: Request) -> HttpResponse:
        rows = registry.accelerators()
        return self.page_of(request, rows, lambda row: row, key=lambda row: str(row["slug"]))


class Region(Shown):
    id = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    storage = serializers.ListField(child=serializers.CharField())


class Regions(ApiView):
    """Where cards stand."""

    public = True
    lists = True

    @extend_schema(responses={200: pages(Region)})
    def get(self, request: Request) -> HttpResponse:
        rows = registry.regions()
        return self.page_of(
            request, rows, lambda row: row, key=lambda row: f"{row['id']} {row['country']}"
        )


class Place(Shown):
    id = serializers.CharField()
    name = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    ownership = serializers.CharField()
    storage = serializers.CharField()
    disk_price = serializers.CharField(help_text="Of a volume, per GiB and month")
    currency = serializers.CharField()
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class DataCenters(ApiView):
    """The data centres with their regions."""

    public = True
    lists = True

    @extend_schema(responses={200: pages(Place)})
    def get(self, request: Request) -> HttpResponse:
        rows = registry.datacenters()
        return self.page_of(request, rows, lambda row: row, key=lambda row: str(row["id"]))


class Reliability(Shown):
    """Of the placements that were the host's to keep, in the last thirty days."""

    value = serializers.FloatField(
        allow_null=True, help_text="0 to 1, the share that was kept; null below ten of them"
    )
    sample = serializers.IntegerField(help_text="How many there were")


class Offer(Shown):
    """A homogeneous group of cards. Null: not measured."""

    id = serializers.CharField()
    accelerator = serializers.CharField()
    vendor = serializers.CharField()
    memory_gib = serializers.IntegerField()
    verified = serializers.BooleanField()
    sharing_mode = serializers.CharField(help_text="whole, or partition: a part cut in hardware")
    partition = serializers.CharField(allow_null=True, help_text="The profile of such a part")
    fingerprint = serializers.CharField(help_text="Equal for offers of one kind, wherever they are")
    gpus = serializers.IntegerField(help_text="The cards that all_in and the shape are for")
    min_gpus = serializers.IntegerField()
    gpus_available = serializers.IntegerField()
    largest_block = serializers.IntegerField(help_text="Most GPUs free on one node")
    price_per_gpu_hour = serializers.CharField()
    all_in_per_hour = serializers.CharField()
    disk_price = serializers.CharField()
    currency = serializers.CharField()
    datacenter = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    ownership = serializers.CharField()
    tier = serializers.CharField()
    isolation = serializers.CharField()
    network_policy = serializers.CharField(
        allow_null=True,
        help_text="enforced, or open: a pod reached its node or API server when it was tried",
    )
    ssh = serializers.BooleanField(help_text="Renters can get in: by SSH, terminal and ports")
    interruptible = serializers.BooleanField(help_text="May be rented so, at its own price")
    interruptible_price_per_gpu_hour = serializers.CharField(allow_null=True)
    vcpus = serializers.FloatField()
    ram_gib = serializers.FloatField()
    disk_gib = serializers.FloatField()
    disk_kind = serializers.CharField(allow_null=True, help_text="nvme, ssd or hdd")
    disk_read_mib_s = serializers.FloatField(allow_null=True)
    disk_write_mib_s = serializers.FloatField(allow_null=True)
    storage = serializers.CharField()
    driver = serializers.CharField(allow_null=True)
    cuda_max = serializers.CharField(allow_null=True)
    net_down_mbps = serializers.FloatField(allow_null=True)
    net_up_mbps = serializers.FloatField(allow_null=True)
    interconnect = serializers.CharField(allow_null=True)
    egress = serializers.CharField(help_text="What machines reach: internet, web or none")
    bandwidth_mbps = serializers.IntegerField(
        allow_null=True, help_text="The owner's cap each way; null: none"
    )
    available_until = serializers.CharField(
        allow_null=True, help_text="When its owner takes the cards back; null: no end is known"
    )
    reliability = Reliability()
    benchmark = serializers.FloatField(
        allow_null=True, help_text="Of the machine around a card, the reference is 100"
    )
    why_here = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField(allow_null=True)
    actions = serializers.ListField(child=serializers.CharField())
    created_at = serializers.CharField()
    version = serializers.IntegerField()


_FILTER_TEXT = {
    "accelerator": "Slug; may be repeated",
    "gpus": "Free on one node now",
    "min_memory_gib": "Per card",
    "min_vcpus": "For the asked GPUs together, as are min_ram_gib and min_disk_gib",
    "max_price": "Per GPU-hour, a decimal string",
    "interruptible": "true: rented so, with the price, max_price and order of that use",
    "ssh": "true: renters can get in; false: nobody can",
    "min_reliability": "0 to 1; offers with fewer than ten placements do not match",
    "egress": "At least so much: internet, web or none; a requirement without it wants internet",
    "min_hours": "For how long its owner leaves the cards, from now on",
    "sharing_mode": "whole or partition; without it whole cards, and parts that accelerator names",
    "order": "price, -price, reliability (highest first, none last) or performance; ties by id",
}


_KNOWN = (*FILTERS, *PAGING)


class Offers(ApiView):
    """What can be rented. A filter is never dropped: unknown or malformed ones are refused."""

    public = True
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter(
                name, str, many=name == "accelerator", description=_FILTER_TEXT.get(name, "")
            )
            for name in FILTERS
        ],
        responses={200: pages(Offer)},
    )
    def get(self, request: Request) -> HttpResponse:
        given = {name: list(values) for name, values in request.query_params.lists()}
        for name, values in given.items():
            if name not in _KNOWN:
                raise unknown_filter(name, _KNOWN)
            if name in PAGING and len(values) != 1:
                raise invalid_filter(name, "give it once")
        for name in PAGING:
            given.pop(name, None)
        query = search.parse(given)
        page = search.search(
            query,
            cursor=request.query_params.get("cursor"),
            limit=parse_limit(request.query_params.get("limit")),
        )
        cards = registry.by_slug()
        items = [search.describe(row, cards) for row in page.rows]
        return self.show({"items": items, "next_cursor": page.next_cursor})


class OneOffer(ApiView):
    """One offer, also when it is paused or has ended: rentals point to it."""

    public = True

    @extend_schema(responses={200: Offer})
    def get(self, request: Request, offer_id: str) -> HttpResponse:
        self.filters(request, {})
        return self.show(search.describe(search.get_offer(offer_id), registry.by_slug()))


class VolumeSize(Body):
    size_gib = serializers.IntegerField(min_value=1, max_value=MAX_DISK_GIB)


class QuoteIn(Body):
    offer = serializers.CharField(required=False, max_length=64)
    requirement = serializers.JSONField(required=False, help_text="The filters of GET /offers")
    gpus = serializers.IntegerField(required=False, min_value=1, max_value=MAX_GPUS)
    disk_gib = serializers.IntegerField(required=False, min_value=1, max_value=MAX_DISK_GIB)
    volume = VolumeSize(required=False, allow_null=True, help_text="A new volume, priced along")
    interruptible = Flag(required=False)


class Component(Shown):
    kind = serializers.CharField()
    text = serializers.CharField()
    quantity = serializers.IntegerField(allow_null=True)
    unit_per_hour = serializers.CharField()
    per_hour = serializers.CharField()
    currency = serializers.CharField()


class Quote(Shown):
    """An all-in price for ten minutes, good for one rental."""

    id = serializers.CharField()
    offer = serializers.CharField()
    accelerator = serializers.CharField()
    region = serializers.CharField()
    gpus = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    volume_gib = serializers.IntegerField()
    interruptible = serializers.BooleanField()
    components = Component(many=True)
    price_per_gpu_hour = serializers.CharField()
    total_per_hour = serializers.CharField()
    stopped_per_day = serializers.CharField()
    currency = serializers.CharField()
    tax = serializers.DictField()
    traffic = serializers.DictField()
    contract_ends_at = serializers.CharField(
        allow_null=True, help_text="When the owner takes the cards back; holds for the rental"
    )
    available_until = serializers.CharField(
        allow_null=True, help_text="The same, or an earlier maintenance that is announced"
    )
    funds_end_at = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    expires_at = serializers.CharField()
    version = serializers.IntegerField()


class Quotes(ApiView):
    """The whole price before the click, for a named offer or the cheapest that fits."""

    scopes = {"POST": "rentals:write"}

    @extend_schema(request=QuoteIn, responses={201: Quote})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(QuoteIn)
        disk, volume = data.get("disk_gib"), (data.get("volume") or {}).get("size_gib", 0)
        if ("offer" in data) == ("requirement" in data):
            raise InvalidRequest({"offer": ["give either offer or requirement"]})
        if "offer" in data and "gpus" not in data:
            raise InvalidRequest({"gpus": ["say how many GPUs of the offer"]})
        if "requirement" in data and "gpus" in data:
            raise InvalidRequest({"gpus": ["name the GPUs inside the requirement"]})
        may = data.get("interruptible")
        query = requirement(data["requirement"], may) if "requirement" in data else None

        def act() -> Any:
            if query is not None:
                return quotes.quote_requirement(
                    acting=principal, query=query, disk_gib=disk, volume_gib=volume
                )
            return quotes.create_quote(
                acting=principal,
                offer_id=data["offer"],
                gpus=data["gpus"],
                disk_gib=disk,
                volume_gib=volume,
                interruptible=bool(may),
            )

        return self.act(request, act, lambda quote: (201, quotes.describe(quote)))


class OneQuote(ApiView):
    """A quote of the organization, used or not."""

    scopes = {"GET": "rentals:read"}

    @extend_schema(responses={200: Quote})
    def get(self, request: Request, quote_id: str) -> HttpResponse:
        self.filters(request, {})
        return self.show(quotes.describe(quotes.get_quote(self.principal(request), quote_id)))


def requirement(given: object, interruptible: bool | None = None) -> OfferQuery:
    """The requirement of a body, with what stands beside it; raises InvalidRequest per field."""
    query = parse_requirement(given, registry.vocabulary())
    if interruptible is None:
        return query
    inside = given.get("interruptible") if isinstance(given, Mapping) else None
    if inside is not None and bool(query.interruptible) != interruptible:
        raise InvalidRequest({"interruptible": ["the requirement says otherwise"]})
    return replace(query, interruptible=interruptible or None)


urls = [
    path("accelerators", Accelerators.as_view()),
    path("regions", Regions.as_view()),
    path("datacenters", DataCenters.as_view()),
    path("offers", Offers.as_view()),
    path("offers/<str:offer_id>", OneOffer.as_view()),
    path("quotes", Quotes.as_view()),
    path("quotes/<str:quote_id>", OneQuote.as_view()),
]
