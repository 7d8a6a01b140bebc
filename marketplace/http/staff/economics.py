"""Staff page of margins: what our own cards leave beside what partners' leave, per card type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.clock import now
from marketplace.accounts.access import STAFF, Principal
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import page, show
from marketplace.http.portal.money_forms import OptionalMoneyField
from marketplace.providers import margins
from marketplace.providers.margins import CardMargin, Side

_USUAL: Final = timedelta(days=30)
_BEGINNING: Final = date(2020, 1, 1)
# A sum over all usage lines of the range: a year of them is what a person waits for.
_LONGEST: Final = timedelta(days=366)


class RangeForm(forms.Form):
    """Days (UTC), both counted; and what an hour of an own card costs, by type."""

    first = forms.DateField(label=gettext_lazy("From (UTC)"), required=False)
    last = forms.DateField(label=gettext_lazy("Until, that day included"), required=False)

    def __init__(self, data: Any, *, cards: Iterable[tuple[str, str]]) -> None:
        super().__init__(data)
        for name in ("first", "last"):
            self.fields[name].widget = forms.DateInput(attrs={"type": "date"})
        self.costs = {f"cost-{slug}": slug for slug, _name in cards}
        for slug, name in cards:
            label = _("%(card)s, cost of an available hour, USD") % {"card": name}
            self.fields[f"cost-{slug}"] = OptionalMoneyField(label=label)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        for name in self.costs:
            if (data.get(name) or 0) < 0:
                self.add_error(name, _("A cost is not negative."))
        first, end = window(data.get("first"), data.get("last"))
        if not timedelta(0) < end - first <= _LONGEST:
            self.add_error("first", _("A year at most, and not after its end."))
        return data


@page(scope=STAFF)
def margins_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The form in the URL, and the margins; without costs, what own cards leave is not known."""
    names = {slug: card.name for slug, card in by_slug().items()}
    own = [(slug, names.get(slug, slug)) for slug in sorted(margins.own_cards())]
    form = RangeForm(request.GET, cards=own)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        data = form.cleaned_data
        from_at, to_at = window(data["first"], data["last"])
        given = {slug: data[name] for name, slug in form.costs.items() if data[name] is not None}
        found = margins.margins(acting=principal, from_at=from_at, to_at=to_at, cost_micro_h=given)
        context |= {
            "rows": [row for one in found for row in _rows(one, names)],
            "from_at": from_at,
            "last_at": to_at - timedelta(seconds=1),
        }
    status = 422 if form.errors else 200
    return show(request, principal, "staff/economics.html", context, status=status)


def window(first: date | None, last: date | None) -> tuple[datetime, datetime]:
    """From the first midnight to the last one, or to now; thirty days where nothing is said."""
    present = now()
    day = min(max(last or present.date(), _BEGINNING), present.date())
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    begin = datetime.combine(first, time(), UTC) if first else end - _USUAL
    return begin, min(end, present)


def _rows(one: CardMargin, names: dict[str, str]) -> list[dict[str, Any]]:
    """Ours and partners', as far as there are any."""
    card = names.get(one.accelerator, one.accelerator)
    rows = [
        _row(card, _("Ours, %(n)d cards now") % {"n": one.cards}, one.owned),
        _row(card, _("Partners'"), one.partner),
    ]
    there = (one.cards or one.owned.use.gpu_seconds, one.partner.use.gpu_seconds)
    return [row for row, any_there in zip(rows, there, strict=True) if any_there]


def _row(card: str, whose: str, side: Side) -> dict[str, Any]:
    hours = f"{Decimal(side.use.gpu_seconds) / 3600:,.2f}"
    return {"card": card, "whose": whose, "side": side, "hours": hours}


urlpatterns = [path("staff/economics", margins_page)]
