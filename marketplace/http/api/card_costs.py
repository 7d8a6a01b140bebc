"""What an owner keeps of a card's costs, by card type, and what needs it now."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.money import format_micro
from kernel.text import rfc3339
from marketplace.catalog.market import fee_bps_of
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.economics import plain
from marketplace.http.api.fields import MoneyIn, Shown
from marketplace.http.api.schema import paged
from marketplace.providers import card_costs, onboard
from marketplace.providers.attention import Need, Urgency
from marketplace.providers.card_costs import SavedCost
from marketplace.providers.economics import LIVES, Inputs, Method
from marketplace.providers.overview import needs

_METHODS = [method.value for method in Method]
# The names of the figures inside, where they differ from those of the API.
_INSIDE = {
    "purchase_price": "purchase_micro",
    "kwh_price": "kwh_micro",
    "colocation": "colocation_micro",
}


class _Decimal(serializers.DecimalField):
    """A share or a number of watts: as a string, so that nothing is rounded on the way."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=12, decimal_places=6, **options)


class CardCostIn(Body):
    """Of one GPU with its share of the server, as in GET /provider/economics; the fee is the
    owner's of the day."""

    purchase_price = MoneyIn()
    watts_load = _Decimal()
    watts_idle = _Decimal()
    kwh_price = MoneyIn(zero=True)
    utilisation = _Decimal(help_text='"0.7" is 70 %')
    life_years = serializers.ChoiceField(LIVES, required=False)
    method = serializers.ChoiceField(_METHODS, required=False)
    residual = _Decimal(required=False)
    decline = _Decimal(required=False)
    pue = _Decimal(required=False)
    colocation = MoneyIn(zero=True, required=False)
    upkeep = _Decimal(required=False)


class CardCostOut(Shown):
    accelerator = serializers.CharField()
    purchase_price = serializers.CharField()
    watts_load = serializers.CharField()
    watts_idle = serializers.CharField()
    kwh_price = serializers.CharField()
    utilisation = serializers.CharField()
    life_years = serializers.IntegerField()
    method = serializers.ChoiceField(_METHODS)
    residual = serializers.CharField()
    decline = serializers.CharField()
    pue = serializers.CharField()
    colocation = serializers.CharField()
    upkeep = serializers.CharField()
    floor_price = serializers.CharField(help_text="With the fee of today")
    full_cost_price = serializers.CharField()
    changed_at = serializers.CharField()


def _described(cost: SavedCost, fee_bps: int) -> dict[str, Any]:
    given, worth = cost.given, card_costs.priced(cost.given, fee_bps, None)
    shares = ("watts_load", "watts_idle", "utilisation", "residual", "decline", "pue", "upkeep")
    return {
        "accelerator": cost.accelerator,
        "purchase_price": format_micro(given.purchase_micro),
        "kwh_price": format_micro(given.kwh_micro),
        "colocation": format_micro(given.colocation_micro),
        "life_years": given.life_years,
        "method": given.method.value,
        **{name: plain(getattr(given, name)) for name in shares},
        "floor_price": format_micro(worth.floor_micro),
        "full_cost_price": format_micro(worth.full_cost_micro),
        "changed_at": rfc3339(cost.changed_at),
    }


class CardCosts(ApiView):
    """Figures that the owner keeps, by card type. Nobody else sees them."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(CardCostOut)})
    def get(self, request: Request) -> HttpResponse:
        principal = self.principal(request)
        fee = fee_bps_of(principal)
        rows = list(card_costs.saved(principal).values())
        return self.page_of(
            request, rows, lambda row: _described(row, fee), key=lambda row: row.accelerator
        )


class OneCardCost(ApiView):
    """Of one card type. PUT keeps all of them anew; DELETE forgets them."""

    scopes = {"PUT": "provider:write", "DELETE": "provider:write"}

    @extend_schema(request=CardCostIn, responses={200: CardCostOut})
    def put(self, request: Request, accelerator: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(CardCostIn)
        for name, inside in _INSIDE.items():
            if name in data:
                data[inside] = data.pop(name)
        if "method" in data:
            data["method"] = Method(data["method"])
        fee = fee_bps_of(principal)
        return self.change(
            lambda: card_costs.save(
                acting=principal, accelerator=accelerator, given=Inputs(**data)
            ),
            lambda cost: (200, _described(cost, fee)),
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, accelerator: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: card_costs.forget(acting=principal, accelerator=accelerator),
            lambda _: (204, None),
        )


class NeedOut(Shown):
    """``about``: the id of the cluster or maintenance concerned; "" where it is none."""

    code = serializers.CharField()
    urgency = serializers.ChoiceField([one.value for one in Urgency])
    text = serializers.CharField()
    about = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField(
        allow_null=True, help_text="Since when it is so, or when it begins"
    )
    count = serializers.IntegerField()


class NeedsOut(Shown):
    items = NeedOut(many=True)


class Needs(ApiView):
    """What needs the owner now, in the order in which to see to it: ``now`` loses money."""

    scopes = {"GET": "provider:read"}

    @extend_schema(responses={200: NeedsOut})
    def get(self, request: Request) -> HttpResponse:
        principal = self.principal(request)
        found = needs(
            acting=principal,
            clusters=onboard.clusters(principal),
            fee_bps=fee_bps_of(principal),
        )
        return self.show({"items": [_need(one) for one in found]})


def _need(one: Need) -> dict[str, Any]:
    return {**vars(one), "urgency": one.urgency.value, "at": rfc3339(one.at)}


urls = [
    path("provider/needs", Needs.as_view()),
    path("provider/card-costs", CardCosts.as_view()),
    path("provider/card-costs/<str:accelerator>", OneCardCost.as_view()),
]
