"""What a card costs its owner and what to ask for it. The figures live in the address; an owner may
keep one set for each card type, which then stands beside its prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.money import MICRO, format_micro
from marketplace.accounts.access import Principal, visible
from marketplace.catalog import publish
from marketplace.catalog.market import StartView, starting_point
from marketplace.catalog.registry import by_slug
from marketplace.http.api.economics import plain, worked_out
from marketplace.http.portal.base import blame, once_to, page, show_form
from marketplace.http.portal.charts import Chart, Line
from marketplace.http.portal.money_forms import MoneyField, OptionalMoneyField
from marketplace.models import Provider
from marketplace.providers import card_costs
from marketplace.providers.economics import (
    BASIS_POINTS,
    LIVES,
    MAX_FEE_BPS,
    MAX_PUE,
    Inputs,
    Method,
)
from marketplace.providers.outlook import Outlook, outlook

_METHODS: Final = {
    Method.STRAIGHT_LINE: gettext_lazy("Straight line"),
    Method.MARKET_VALUE: gettext_lazy("Market value"),
}
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
    """The form; with figures in the address, or kept ones of the card, what they come to."""
    names = {slug: card.name for slug, card in by_slug().items()}
    card = request.GET.get("card", "")
    start = starting_point(acting=principal, **_named(card, names))
    kept = card_costs.saved(principal)
    saved = kept.get(start.accelerator or "")
    data: Any = request.GET if "purchase_price" in request.GET else None
    if data is None and saved is not None:
        data = {"card": card, **_written(saved.given)}
    form = EconomicsForm(data, cards=_cards(principal, names), start=start, card=card)
    context: dict[str, Any] = {
        "market": start.market,
        "card": names.get(start.accelerator or "", start.accelerator),
        "saved": saved,
        "from_saved": saved is not None and "purchase_price" not in request.GET,
        "kept": [(slug, names.get(slug, slug), cost) for slug, cost in kept.items()],
        "may_save": _may_save(principal, start),
        "may_write": "provider:write" in principal.scopes,
    }
    refusal = None
    if data is not None and form.is_valid():
        try:
            context |= _results(worked_out(start, form.figures()))
        except Refusal as error:
            refusal = blame(form, error)
    return show_form(
        request, principal, "portal/economics.html", form, refusal=refusal, context=context
    )


def _may_save(principal: Principal, start: StartView) -> bool:
    return (
        start.accelerator is not None
        and "provider:write" in principal.scopes
        and visible(Provider, principal).exists()
    )


def _written(given: Inputs) -> dict[str, Any]:
    """Kept figures as the form has them: shares in percent, and no fee or price."""
    shares = ("utilisation", "residual", "decline", "upkeep")
    return {
        "purchase_price": format_micro(given.purchase_micro),
        "kwh_price": format_micro(given.kwh_micro),
        "colocation": format_micro(given.colocation_micro),
        "watts_load": plain(given.watts_load),
        "watts_idle": plain(given.watts_idle),
        "pue": plain(given.pue),
        "life_years": given.life_years,
        "method": given.method,
        **{name: percent(getattr(given, name)) for name in shares},
    }


@require_POST
@page(scope="provider:write")
def save(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Keep the figures of the form for its card, in place of those that were kept."""
    names = {slug: card.name for slug, card in by_slug().items()}
    card = request.POST.get("card", "")
    start = starting_point(acting=principal, **_named(card, names))
    form = EconomicsForm(request.POST, cards=_cards(principal, names), start=start, card=card)
    if start.accelerator is None or not form.is_valid():
        raise InvalidRequest({"card": [_("Choose a card and give its figures first.")]})
    slug, given = start.accelerator, worked_out(start, form.figures()).given
    answer = once_to(
        None,
        lambda: card_costs.save(acting=principal, accelerator=slug, given=given),
        lambda _cost: f"/provider/economics?{urlencode({'card': card})}",
    )
    messages.success(request, _("Kept. Its floor price stands beside your prices from now on."))
    return answer


@require_POST
@page(scope="provider:write")
def forget(request: HttpRequest, principal: Principal, card: str) -> HttpResponse:
    answer = once_to(
        None,
        lambda: card_costs.forget(acting=principal, accelerator=card),
        lambda _none: "/provider/economics",
    )
    messages.success(request, _("Forgotten."))
    return answer


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
        "charts": _charts(found),
        "compared": _compared(found),
    }


def _charts(found: Outlook) -> list[Chart]:
    """What the card is worth, what it leaves, when it has paid for itself."""
    years = [float(one.year) for one in found.years]
    charts = [
        Chart(
            id="book",
            title=_("Book value"),
            at=years,
            lines=[
                Line(_("Straight line"), [_usd(one.straight_line_micro) for one in found.years]),
                Line(_("Market value"), [_usd(one.market_value_micro) for one in found.years]),
            ],
            unit="$",
            across=_("End of year"),
        )
    ]
    if found.curve:
        left = [_usd(one.left_micro) for one in found.curve]
        charts.append(
            Chart(
                id="break-even",
                title=_("What an hour of the clock leaves"),
                at=[float(one.utilisation) for one in found.curve],
                lines=[Line(_("At your price"), left), Line(_("Nothing"), [0.0] * len(left), True)],
                unit="$/h",
                across=_("Rented, % of all hours"),
                note=_("Where it crosses nothing is the break-even."),
            )
        )
        charts.append(
            Chart(
                id="payback",
                title=_("Money in hand"),
                at=years,
                lines=[
                    Line(_("At your price and utilisation"), [_usd(m) for m in found.cash_micro]),
                    Line(_("Nothing"), [0.0] * len(years), True),
                ],
                unit="$",
                across=_("End of year"),
                note=_("The purchase is paid at the beginning, and nothing is sold."),
            )
        )
    return charts


def _usd(micro: int) -> float:
    return micro / MICRO


def _compared(found: Outlook) -> list[dict[str, Any]]:
    """The same card as a partner's, with the fee, and as one of the platform's own, without."""
    without = outlook(replace(found.given, fee_bps=0), found.price_micro)
    fee = percent(Decimal(found.given.fee_bps) / BASIS_POINTS)
    return [
        {"who": _("Partner, fee %(fee)s %%") % {"fee": fee}, "found": found},
        {"who": _("Owned by the platform, no fee"), "found": without},
    ]


def percent(share: Decimal) -> str:
    """A share as people write it, without the sign."""
    return plain(share * 100)


urls = [
    path("provider/economics", economics_page),
    path("provider/economics/save", save),
    path("provider/economics/<str:card>/forget", forget),
]
