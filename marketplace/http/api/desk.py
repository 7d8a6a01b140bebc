"""The desk of staff over the API: what waits for a person, strangers, and capacity."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import IdOut, MoneyOut, Shown
from marketplace.oncall import desk
from marketplace.rentals import capacity
from provisioner.facade import desk as provisioner

_STRANGERS = 1000


class QueueOut(Shown):
    """oldest_at: since when the first of them waits; null for an empty queue."""

    name = serializers.CharField()
    count = serializers.IntegerField()
    oldest_at = serializers.DateTimeField(source="oldest", allow_null=True)


class QueuesOut(Shown):
    queues = QueueOut(many=True)


class Queues(ApiView):
    """What waits for a person of the staff: every queue, the empty ones as well."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: QueuesOut})
    def get(self, request: Request) -> HttpResponse:
        self.filters(request, {})
        return self.show(QueuesOut({"queues": desk.queues(self.principal(request))}).data)


class StrangerOut(Shown):
    """claims: what its label says that it is; here: seen by one of the last sweeps."""

    kind = serializers.ChoiceField(["pod", "volume"])
    cluster = IdOut("cluster", source="cluster_id")
    cluster_name = serializers.CharField(source="cluster")
    namespace = serializers.CharField()
    name = serializers.CharField()
    claims = serializers.CharField()
    here = serializers.BooleanField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()


class StrangersOut(Shown):
    strangers = StrangerOut(many=True)


class Strangers(ApiView):
    """Pods and volumes in clusters that carry our label and name nothing we know, the oldest
    thousand. We end and bill none of them."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: StrangersOut})
    def get(self, request: Request) -> HttpResponse:
        self.filters(request, {})
        return self.show(StrangersOut({"strangers": provisioner.strangers(limit=_STRANGERS)}).data)


@extend_schema_field({"type": ["string", "null"], "example": "0.8125"})
class ShareOut(serializers.Field):  # type: ignore[type-arg]
    """A part of one, or null where it is a part of nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Decimal) -> str:
        return str(value)


class StockOut(Shown):
    """busy: rented of what could be now. scattered: of the free cards, those in blocks too small
    for the largest order. region: "" for all together."""

    region = serializers.CharField()
    total = serializers.IntegerField()
    held = serializers.IntegerField()
    free = serializers.IntegerField()
    off_sale = serializers.IntegerField()
    dirty = serializers.IntegerField()
    cordoned = serializers.IntegerField()
    busy = ShareOut()
    scattered = ShareOut()


class LeftOut(Shown):
    gpu_seconds = serializers.IntegerField()
    revenue = MoneyOut(source="revenue_micro")
    kept = MoneyOut(source="kept_micro")


class CardCapacityOut(Shown):
    """used: seconds charged of those that cards were there, in the window. largest_order: most
    cards that one order wanted in it. owned, partner: null where nothing was used."""

    accelerator = serializers.CharField()
    largest_order = serializers.IntegerField(source="largest")
    used = ShareOut()
    everywhere = StockOut()
    regions = StockOut(many=True)
    owned = LeftOut(source="margin.owned.use", allow_null=True, default=None)
    partner = LeftOut(source="margin.partner.use", allow_null=True, default=None)


class UnmetOut(Shown):
    """gpus: rounded up to a power of two. Empty texts: any."""

    reason = serializers.CharField()
    accelerator = serializers.CharField()
    region = serializers.CharField()
    gpus = serializers.IntegerField()
    orders = serializers.IntegerField()


class CapacityOut(Shown):
    since = serializers.DateTimeField()
    cards = CardCapacityOut(many=True)
    unmet = UnmetOut(many=True)


class Capacity(ApiView):
    """Cards by type and region as they stand, and of the last seven days: how full they were, what
    they left, and which orders found none."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: CapacityOut})
    def get(self, request: Request) -> HttpResponse:
        self.filters(request, {})
        found = capacity.capacity(acting=self.principal(request))
        return self.show(CapacityOut(found).data)


urls = [
    path("staff/queues", Queues.as_view()),
    path("staff/strangers", Strangers.as_view()),
    path("staff/capacity", Capacity.as_view()),
]
