"""Why an own offer is shown and rented, or is not."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.money import CURRENCY
from marketplace.catalog.visibility import VisibilityView, visibility
from marketplace.catalog.why import Effect
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import MoneyOut, Shown
from provisioner.contracts.reliability import ReliabilityView, Verdict


class WhyOut(Shown):
    """``hides``: it is not in the catalogue; ``full``: no order fits now; ``narrows``: some orders
    pass it by; ``ranks``: others stand before it. ``text`` says what to do."""

    code = serializers.CharField()
    effect = serializers.ChoiceField([effect.value for effect in Effect])
    text = serializers.CharField()


class AskedOut(Shown):
    """Prices asked for the card now, yours included."""

    offers = serializers.IntegerField()
    p10 = MoneyOut(source="p10_micro")
    median = MoneyOut(source="median_micro")
    p90 = MoneyOut(source="p90_micro")


class PlaceByPrice(Shown):
    """Among offers of the same card that take an order of one of them now."""

    price_per_gpu_hour = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    position = serializers.IntegerField(
        allow_null=True, help_text="By price, the first is 1; null while it takes no such order"
    )
    comparable = serializers.IntegerField(help_text="Others of them")
    cheaper = serializers.IntegerField()
    equal = serializers.IntegerField()
    market = AskedOut(allow_null=True, help_text="Null below three offers of two other owners")


class CauseOut(Shown):
    code = serializers.CharField()
    text = serializers.CharField()
    count = serializers.IntegerField()


class RecordOut(Shown):
    """Placements of the last thirty days whose end says something about the host (``sample``), and
    how many of them started and were kept. ``uncounted`` ones count neither way."""

    value = serializers.FloatField(allow_null=True, help_text="kept / sample; null below the least")
    sample = serializers.IntegerField()
    least_sample = serializers.IntegerField()
    started = serializers.IntegerField()
    kept = serializers.IntegerField()
    failures = CauseOut(many=True)
    uncounted = CauseOut(many=True)


class PlacementOut(Shown):
    """Nothing of who rented. ``verdict``: null while it goes on."""

    node_name = serializers.CharField(source="node")
    gpus = serializers.IntegerField()
    state = serializers.CharField()
    placed_at = serializers.DateTimeField()
    ready_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    cause = serializers.CharField(allow_null=True)
    text = serializers.CharField(allow_null=True)
    verdict = serializers.ChoiceField([verdict.value for verdict in Verdict], allow_null=True)


class VisibilityOut(Shown):
    """``shown``: in the catalogue; ``rentable``: an order fits now. Searches are not counted."""

    offer = serializers.CharField()
    shown = serializers.BooleanField()
    rentable = serializers.BooleanField()
    reasons = WhyOut(many=True)
    price = PlaceByPrice()
    gpus_total = serializers.IntegerField()
    gpus_available = serializers.IntegerField()
    largest_block = serializers.IntegerField()
    reliability = RecordOut()
    placements = PlacementOut(many=True, help_text="The last ones, newest first")


class Visibility(ApiView):
    """Whether and why an own offer is shown and rented: each reason with what to do."""

    scopes = {"GET": "provider:read"}

    @extend_schema(responses={200: VisibilityOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        self.filters(request, {})
        view = visibility(acting=self.principal(request), offer_id=id)
        return self.show(VisibilityOut(described(view)).data)


def described(view: VisibilityView) -> dict[str, Any]:
    """The view in the contract's words."""
    offer, group = view.offer, view.offer.group
    money = MoneyOut()
    price = offer.price_micro_h
    return {
        **vars(view),
        "offer": offer.public_id,
        "price": {
            **vars(view.rank),
            "price_per_gpu_hour": money.to_representation(price) if price else None,
            "currency": CURRENCY,
            "market": view.market,
        },
        "gpus_total": group.slots_total,
        "gpus_available": group.slots_free,
        "largest_block": group.largest_block,
        "reliability": {**vars(view.reliability), "value": _value(view.reliability)},
    }


def _value(record: ReliabilityView) -> float | None:
    return None if record.value_bp is None else record.value_bp / 10_000


urls = [path("provider/offers/<str:id>/visibility", Visibility.as_view())]
