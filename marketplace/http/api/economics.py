"""What a card costs its owner, and what to ask for it: worked out when asked, nothing kept."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.errors import InvalidRequest, Refusal
from kernel.money import CURRENCY, BadAmount, parse_micro
from marketplace.catalog.market import StartView, starting_point
from marketplace.catalog.query import decimal, invalid_filter, whole
from marketplace.catalog.query import one_of as named
from marketplace.catalog.registry import vocabulary
from marketplace.http.api.base import ApiView, Parse
from marketplace.http.api.fields import MoneyOut, Shown, one_of
from marketplace.providers.economics import (
    HOURS_PER_MONTH,
    HOURS_PER_YEAR,
    LIVES,
    MAX_FEE_BPS,
    MAX_PUE,
    MAX_WATTS,
    Inputs,
    Method,
)
from marketplace.providers.outlook import Outlook, outlook

_METHODS: Final = [method.value for method in Method]
_LIVES: Final = [str(years) for years in LIVES]
_NEEDED: Final = ("purchase_price", "watts_load", "watts_idle", "kwh_price", "utilisation")
# The names of the figures inside, where they differ from those of the API.
_INSIDE: Final = {
    "purchase_price": "purchase_micro",
    "kwh_price": "kwh_micro",
    "colocation": "colocation_micro",
}


def _money(text: str) -> int:
    try:
        return parse_micro(text)
    except BadAmount as error:
        raise ValueError(str(error)) from error


def _card(text: str) -> str:
    return named(vocabulary().accelerators)(text)


_PARSERS: Final[dict[str, Parse]] = {
    "purchase_price": _money,
    "watts_load": decimal(MAX_WATTS),
    "watts_idle": decimal(MAX_WATTS),
    "kwh_price": _money,
    "utilisation": decimal(1),
    "life_years": lambda text: int(one_of(_LIVES)(text)),
    "method": lambda text: Method(one_of(_METHODS)(text)),
    "residual": decimal(1),
    "decline": decimal(1),
    "pue": decimal(MAX_PUE),
    "colocation": _money,
    "upkeep": decimal(1),
    "fee_bps": whole(0, MAX_FEE_BPS),
    "price": _money,
    "offer": str,
    "accelerator": _card,
}
_TEXTS: Final = {
    "purchase_price": "Needed. USD, for one GPU with its share of the server",
    "watts_load": "Needed. Of one GPU with its share of the server, rented and busy",
    "watts_idle": "Needed. The same while nobody rents it",
    "kwh_price": "Needed. USD per kWh",
    "utilisation": 'Needed. Share of all hours in which it is rented: "0.7" is 70 %',
    "life_years": "4 unless given",
    "method": "straight_line unless given",
    "residual": 'Share of the purchase price left at the end of its life; "0" unless given',
    "decline": 'Share of its market value lost each year; "0.33" unless given',
    "pue": 'Power the building takes per power of the machine; "1.4" unless given',
    "colocation": 'USD per GPU and month of 730 hours; "0" unless given',
    "upkeep": 'Share of the purchase price per year; "0" unless given',
    "fee_bps": "The platform's fee in basis points; yours unless given",
    "price": "USD per GPU-hour; the offer's unless given",
    "offer": "One of yours: fills in price and accelerator",
    "accelerator": "A card type, for its market; leave it out with offer",
}
_ENUMS: Final = {"life_years": _LIVES, "method": _METHODS}


class FiguresOut(Shown):
    """What was given, with what was filled in."""

    purchase_price = MoneyOut(source="purchase_micro")
    watts_load = serializers.CharField()
    watts_idle = serializers.CharField()
    kwh_price = MoneyOut(source="kwh_micro")
    utilisation = serializers.CharField()
    life_years = serializers.IntegerField()
    method = serializers.ChoiceField(_METHODS)
    residual = serializers.CharField()
    decline = serializers.CharField()
    pue = serializers.CharField()
    colocation = MoneyOut(source="colocation_micro")
    upkeep = serializers.CharField()
    fee_bps = serializers.IntegerField()


class PerHourOut(Shown):
    """``depreciation`` is that of the method asked for, the mean over the life; ``idle_hour`` and
    ``rented_hour`` are all that an hour costs without and with a renter."""

    depreciation = MoneyOut(source="depreciation_micro")
    straight_line = MoneyOut(source="straight_line_micro")
    market_value = MoneyOut(source="market_value_micro")
    energy_rented = MoneyOut(source="energy_rented_micro")
    energy_idle = MoneyOut(source="energy_idle_micro")
    colocation = MoneyOut(source="colocation_micro")
    upkeep = MoneyOut(source="upkeep_micro")
    idle_hour = MoneyOut(source="idle_hour_micro")
    rented_hour = MoneyOut(source="rented_hour_micro")


class BreakEvenOut(Shown):
    """``utilisation`` is null without a price, or where none reaches it; ``note`` says why."""

    utilisation = serializers.CharField(source="break_even", allow_null=True)
    note = serializers.CharField(source="break_even_note")


class PaybackOut(Shown):
    """``years`` is null without a price, or where it never comes; ``note`` says why."""

    years = serializers.CharField(source="payback_years", allow_null=True)
    note = serializers.CharField(source="payback_note")


class MarketOut(Shown):
    """Prices asked per GPU-hour for this card now, over ``offers`` on sale."""

    offers = serializers.IntegerField()
    p10 = MoneyOut(source="p10_micro")
    median = MoneyOut(source="median_micro")
    p90 = MoneyOut(source="p90_micro")


class TableRowOut(Shown):
    """Full-cost prices, one for each of ``utilisations``."""

    method = serializers.ChoiceField(_METHODS)
    life_years = serializers.IntegerField()
    full_cost_prices = serializers.ListField(child=MoneyOut(), source="prices_micro")


class YearOut(Shown):
    """Book values at the end of a year, and what an hour of it took off; year 0 is the purchase."""

    year = serializers.IntegerField()
    straight_line = MoneyOut(source="straight_line_micro")
    market_value = MoneyOut(source="market_value_micro")
    straight_line_per_hour = MoneyOut(source="straight_line_micro_h", allow_null=True)
    market_value_per_hour = MoneyOut(source="market_value_micro_h", allow_null=True)


class EconomicsOut(Shown):
    """Costs, prices, utilisations and times are rounded up, values and margins down."""

    currency = serializers.CharField()
    hours_per_year = serializers.IntegerField()
    hours_per_month = serializers.IntegerField()
    offer = serializers.CharField(allow_null=True)
    accelerator = serializers.CharField(allow_null=True)
    inputs = FiguresOut()
    per_hour = PerHourOut()
    full_cost_per_rented_hour = MoneyOut()
    floor_price = MoneyOut(help_text="Below it a rented hour loses money against standing idle")
    full_cost_price = MoneyOut(help_text="Covers everything at this utilisation, the fee included")
    price = MoneyOut(allow_null=True)
    margin_per_rented_hour = MoneyOut(allow_null=True)
    break_even = BreakEvenOut()
    payback = PaybackOut()
    market = MarketOut(
        allow_null=True,
        help_text="null without a card, and below three offers of two other owners",
    )
    utilisations = serializers.ListField(child=serializers.CharField())
    table = TableRowOut(many=True)
    years = YearOut(many=True)


class Economics(ApiView):
    """What a card costs by the hour, and the prices at which it pays. Nothing is stored.

    A year has 8,760 hours and a month 730.
    """

    scopes = {"GET": "provider:read"}

    @extend_schema(
        parameters=[
            OpenApiParameter(name, str, description=text, enum=_ENUMS.get(name))
            for name, text in _TEXTS.items()
        ],
        responses={200: EconomicsOut},
    )
    def get(self, request: Request) -> HttpResponse:
        principal, wanted = self.principal(request), self.filters(request, _PARSERS)
        for name in _NEEDED:
            if name not in wanted:
                raise Refusal(
                    "invalid_filter", f'The filter "{name}" is needed: give it.', filter=name
                )
        try:
            start = starting_point(
                acting=principal,
                offer_id=wanted.get("offer"),
                accelerator=wanted.get("accelerator"),
            )
            shown = worked_out(start, wanted)
        except InvalidRequest as error:
            name, texts = next(iter(error.extra["errors"].items()))
            raise invalid_filter(name, "; ".join(texts)) from error
        return self.show(EconomicsOut(_answer(start, shown)).data)


def worked_out(start: StartView, wanted: Mapping[str, Any]) -> Outlook:
    """For figures by the names of the API; price and fee are the owner's unless given.
    InvalidRequest."""
    given = {_INSIDE.get(name, name): value for name, value in wanted.items()}
    price = given.pop("price", None)
    figures = {name: given[name] for name in given if name not in ("offer", "accelerator")}
    return outlook(
        Inputs(**{"fee_bps": start.fee_bps, **figures}),
        start.price_micro if price is None else price,
    )


def _answer(start: StartView, shown: Outlook) -> dict[str, Any]:
    figures = {
        name: plain(value) if isinstance(value, Decimal) else value
        for name, value in vars(shown.given).items()
    }
    return {
        "currency": CURRENCY,
        "hours_per_year": HOURS_PER_YEAR,
        "hours_per_month": HOURS_PER_MONTH,
        "offer": start.offer.public_id if start.offer else None,
        "accelerator": start.accelerator,
        "inputs": figures,
        "per_hour": shown,
        "full_cost_per_rented_hour": shown.full_cost_micro,
        "floor_price": shown.floor_price_micro,
        "full_cost_price": shown.full_cost_price_micro,
        "price": shown.price_micro,
        "margin_per_rented_hour": shown.margin_micro,
        "break_even": shown,
        "payback": shown,
        "market": start.market,
        "utilisations": [plain(share) for share in shown.utilisations],
        "table": shown.table,
        "years": shown.years,
    }


def plain(value: Decimal) -> str:
    """As people write it: no exponent, no needless zeros."""
    return f"{value.normalize():f}"


urls = [path("provider/economics", Economics.as_view())]
