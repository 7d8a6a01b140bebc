"""How price and stock of a card went: by the day and by the hour. Public."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.catalog.cards import find_card
from marketplace.catalog.history import DAYS, DEFAULT_DAYS, CardHistory, history
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import Shown, one_of


class DayOut(Shown):
    """Per GPU and hour. Null: nothing was on sale that day, or too few rented."""

    day = serializers.CharField(help_text="A day in UTC")
    lowest = serializers.CharField(allow_null=True)
    median = serializers.CharField(allow_null=True)
    rented = serializers.CharField(
        allow_null=True, help_text="Paid on average, where three rentals of two renters ran"
    )


class HourOut(Shown):
    """Of what was on sale. An hour that is missing: nothing was, or nobody looked."""

    at = serializers.CharField()
    free = serializers.IntegerField()
    total = serializers.IntegerField()
    largest_block = serializers.IntegerField(help_text="Most GPUs free on one node")


class CardHistoryOut(Shown):
    accelerator = serializers.CharField()
    days = serializers.IntegerField()
    currency = serializers.CharField()
    prices = DayOut(many=True, help_text="Every day, today last")
    stock = HourOut(many=True, help_text="The oldest first")


class AcceleratorHistory(ApiView):
    """Prices and stock of an accelerator in the last 7, 30 or 90 days."""

    public = True

    @extend_schema(
        parameters=[OpenApiParameter("days", int, enum=list(DAYS), default=DEFAULT_DAYS)],
        responses={200: CardHistoryOut},
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        given = self.filters(request, {"days": one_of(list(map(str, DAYS)))})
        days = int(given.get("days", DEFAULT_DAYS))
        card = find_card(slug)
        return self.show(_shown(card.slug, days, history(card.slug, days=days)))


def _shown(slug: str, days: int, found: CardHistory) -> dict[str, Any]:
    return {
        "accelerator": slug,
        "days": days,
        "currency": CURRENCY,
        "prices": [
            {
                "day": day.day.isoformat(),
                "lowest": _money(day.lowest_micro),
                "median": _money(day.median_micro),
                "rented": _money(day.rented_micro),
            }
            for day in found.days
        ],
        "stock": [
            {
                "at": rfc3339(hour.hour),
                "free": hour.free,
                "total": hour.total,
                "largest_block": hour.largest_block,
            }
            for hour in found.hours
        ],
    }


def _money(micro: int | None) -> str | None:
    return None if micro is None else format_micro(micro)


urls = [path("accelerators/<str:slug>/history", AcceleratorHistory.as_view())]
