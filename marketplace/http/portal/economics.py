"""What a card costs its owner and what to ask for it. The figures live in the URL; none is kept."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.errors import NotFound, Refusal
from marketplace.accounts.access import Principal
from marketplace.catalog import publish
from marketplace.catalog.market import StartView, starting_point
from marketplace.catalog.registry import by_slug
from marketplace.http.api.economics import plain, worked_out
from marketplace.http.portal.base import blame, page, show, status_of
from marketplace.http.portal.money_forms import MoneyField, OptionalMoneyField
from marketplace.providers.economics import (
    BASIS_POINTS,
    LIVES,
    MAX_FEE_BPS,
    MAX_PUE,
    Inputs,
    Method,
)
from marketplace.providers.outlook import Outlook, Year

_METHODS: Final = {
    Method.STRAIGHT_LINE: gettext_lazy("Straight line"),
    Method.MARKET_VALUE: gettext_lazy("Market value"),
}
# The chart's size in its own units; its width on the page is the style sheet's.
_WIDE, _HIGH = 320, 120
_LESS_THAN_ALL: Final = Decimal("99.99")  # percent


class _Number(forms.DecimalField):
    """A plain decimal in a text field: the browsers' number fields follow the reader's locale."""

    widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_digits": 9, "decimal_places": 4, **options})


class _Percent(_Number):
    """Percent; a share when cleaned."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, "max_value": 100, **options})

    def clean(self, value: Any) -> Any:
        cleaned = super().clean(value)
        return None if cleaned is None else cleaned / 100


class EconomicsForm(forms.Form):
    """One GPU with its share of the server. Names are those of the API; shares are in percent."""

    card = forms.ChoiceField(
        label=gettext_lazy("Card"),
        required=False,
        help_text=gettext_lazy("For its market. An offer of yours fills in its price."),
    )
    purchase_price = MoneyField(
        label=gettext_lazy("Purchase price, USD"),
        help_text=gettext_lazy("One GPU with its share of the server."),
    )
    utilisation = _Percent(label=gettext_lazy("Rented, % of all hours"), min_value=Decimal("0.01"))
    price = OptionalMoneyField(
        label=gettext_lazy("Your price per GPU and hour, USD"), required=False
    )
    watts_load = _Number(label=gettext_lazy("Watts under load"), min_value=0)
    watts_idle = _Number(label=gettext_lazy("Watts idle"), min_value=0)
    kwh_price = MoneyField(label=gettext_lazy("Price per kWh, USD"))
    pue = _Number(
        label=gettext_lazy("PUE"),
        required=False,
        min_value=1,
        max_value=MAX_PUE,
        help_text=gettext_lazy("What the building takes for each watt of the machine."),
    )
    life_years = forms.TypedChoiceField(
        label=gettext_lazy("Life, years"), choices=[(years, years) for years in LIVES], coerce=int
    )
    method = forms.TypedChoiceField(
        label=gettext_lazy("Written off by"), choices=list(_METHODS.items()), coerce=Method
    )
    residual = _Percent(
        label=gettext_lazy("Residual, % of the price"), required=False, max_value=_LESS_THAN_ALL
    )
    decline = _Percent(
        label=gettext_lazy("Market value lost per year, %"),
        required=False,
        max_value=_LESS_THAN_ALL,
    )
    colocation = OptionalMoneyField(
        label=gettext_lazy("Colocation per GPU and month, USD"), required=False
    )
    upkeep = _Percent(label=gettext_lazy("Upkeep, % of the price per year"), required=False)
    fee_bps = _Percent(
        label=gettext_lazy("Platform's fee, %"),
        required=False,
        max_value=MAX_FEE_BPS // 100,
        decimal_places=2,
    )

    def __init__(
        self, data: Any, *, cards: Sequence[tuple[Any, Any]], start: StartView, card: str
    ) -> None:
        first = {
            "card": card,
            "life_years": Inputs.life_years,
            "method": Inputs.method,
            "residual": percent(Inputs.residual),
            "decline": percent(Inputs.decline),
            "pue": plain(Inputs.pue),
            "colocation": "0",
            "upkeep": percent(Inputs.upkeep),
        }
        super().__init__(data, initial=first)
        field = self.fields["card"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("None")), *cards]
        self.fields["fee_bps"].help_text = _("Empty: %(fee)s, which is yours.") % {
            "fee": percent(Decimal(start.fee_bps) / BASIS_POINTS) + " %"
        }
        if start.price_micro is not None:
            self.fields["price"].help_text = _("Empty: the offer's.")

    def figures(self) -> dict[str, Any]:
        """Of the valid form, by the names of the API; what was left out is left out."""
        given = {
            name: value for name, value in self.cleaned_data.items() if value not in (None, "")
        }
        given.pop("card", None)
        if "fee_bps" in given:
            given["fee_bps"] = int(given["fee_bps"] * BASIS_POINTS)
        return given


@page(scope="provider:read")
def economics_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The form; with figures in the URL, what they come to."""
    names = {slug: card.name for slug, card in by_slug().items()}
    card = request.GET.get("card", "")
    start = starting_point(acting=principal, **_named(card, names))
    asked = "purchase_price" in request.GET
    form = EconomicsForm(
        request.GET if asked else None,
        cards=_cards(principal, names),
        start=start,
        card=card,
    )
    context: dict[str, Any] = {"form": form, "market": start.market, "refusal": None}
    context["card"] = names.get(start.accelerator or "", start.accelerator)
    if asked and form.is_valid():
        try:
            context |= _results(worked_out(start, form.figures()))
        except Refusal as error:
            context["refusal"] = blame(form, error)
    status = 422 if form.errors else status_of(context["refusal"])
    return show(request, principal, "portal/economics.html", context, status=status)


def _named(card: str, names: dict[str, str]) -> dict[str, str]:
    """What the choice names: an own offer, a card, or nothing."""
    if card.startswith("ofr_"):
        return {"offer_id": card}
    if card and card not in names:
        raise NotFound("card")
    return {"accelerator": card} if card else {}


def _cards(principal: Principal, names: dict[str, str]) -> list[tuple[Any, Any]]:
    own = [
        (offer.public_id, f"{names.get(offer.group.accelerator, '?')}, {offer.region}")
        for offer in publish.list_offers(principal).order_by("id")
    ]
    every = (_("Any card"), sorted(names.items(), key=lambda one: one[1]))
    return [(_("Your offers"), own), every] if own else [every]


def _results(found: Outlook) -> dict[str, Any]:
    """The answer in the words and units of people."""
    even = None if found.break_even is None else percent(Decimal(found.break_even))
    return {
        "found": found,
        "method": _METHODS[found.given.method],
        "utilisation": percent(found.given.utilisation),
        "break_even": even,
        "shares": [percent(share) for share in found.utilisations],
        "rows": [
            {
                "method": _METHODS[row.method],
                "life_years": row.life_years,
                "cells": [
                    (percent(share), micro)
                    for share, micro in zip(found.utilisations, row.prices_micro, strict=True)
                ],
            }
            for row in found.table
        ],
        "lines": {
            "straight": _line(found.years, "straight_line_micro"),
            "market": _line(found.years, "market_value_micro"),
            "wide": _WIDE,
            "high": _HIGH,
        },
    }


def _line(years: Sequence[Year], name: str) -> str:
    """The points of a curve of book values, from the purchase on the left."""
    paid, last = getattr(years[0], name), len(years) - 1
    return " ".join(
        f"{_WIDE * one.year // last},{_HIGH - _HIGH * getattr(one, name) // paid}" for one in years
    )


def percent(share: Decimal) -> str:
    """A share as people write it, without the sign."""
    return plain(share * 100)


urls = [path("provider/economics", economics_page)]
