"""The public catalogue: filters live in the URL and are read by the API's own strict parser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import path
from django.utils.translation import gettext as _

from kernel.errors import Refusal
from marketplace.accounts.access import Principal
from marketplace.catalog import registry, search
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.relax import relaxations
from marketplace.http.portal.base import go, is_htmx, page, piece, show, status_of
from marketplace.http.portal.forms import FilterForm

Params = dict[str, list[str]]


@page(public=True)
def catalogue(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """Offers with filters. A form's empty fields are no filters: the address is kept clean."""
    given = _without_blanks(request.GET)
    clean_url = f"/?{urlencode(given, doseq=True)}" if given else "/"
    if not is_htmx(request) and _has_blanks(request.GET):
        return go(clean_url)
    refusal, found, nearby = None, None, []
    cursors = given.pop("cursor", [])
    try:
        query = search.parse(given)
        found = search.search(query, cursor=cursors[0] if cursors else None)
        if not found.rows and not cursors:
            nearby = _nearby(given, query)
    except Refusal as error:
        refusal = error
    cards = registry.accelerators()
    names = {card["slug"]: card["name"] for card in cards}
    context = {
        "refusal": refusal,
        "offers": _rows(found, names) if found else [],
        "nearby": nearby,
        "asked": len([name for name in given if name != "order"]),
        "gpus": found.rows[0].gpus if found and found.rows else 1,
        "offer_query": _offer_query(given),
        "next_cursor": found.next_cursor if found else None,
        "more_query": _more(given, found.next_cursor if found else None),
    }
    status = status_of(refusal)
    if is_htmx(request):
        context["fragment"] = True
        answer = piece(request, "portal/catalogue_results.html", context, status=status)
        answer["HX-Push-Url"] = clean_url
        return answer
    context |= _filter_bar(given, cards)
    return show(request, principal, "portal/catalogue.html", context, status=status)


def _without_blanks(params: QueryDict) -> Params:
    return {
        name: kept for name, values in params.lists() if (kept := [v for v in values if v.strip()])
    }


def _has_blanks(params: QueryDict) -> bool:
    return any(not value.strip() for _name, values in params.lists() for value in values)


def _rows(found: search.OfferPage, names: dict[str, str]) -> list[dict[str, Any]]:
    known = registry.by_slug()
    rows = [search.describe(row, known) for row in found.rows]
    return [{**row, "name": names.get(row["accelerator"], row["accelerator"])} for row in rows]


def _filter_bar(given: Params, cards: list[dict[str, Any]]) -> dict[str, Any]:
    """The form as the address says, and filters that it has no field for, kept as they are."""
    free = [(card["slug"], card["name"]) for card in cards if card["in_stock"]]
    # Parts of cards are many kinds: only what somebody has, or was asked for, is worth a line.
    asked = given.get("accelerator", [])
    shown = [card for card in cards if not card["partition"] or card["slug"] in asked]
    rest = [(card["slug"], card["name"]) for card in shown if not card["in_stock"]]
    groups: list[tuple[str, Any]] = []
    if free:
        groups.append((_("Free now"), free))
    if rest:
        groups.append((_("Not free now"), rest))
    places = sorted({place["region"] for place in registry.regions()})
    form = FilterForm(
        initial={name: values[0] for name, values in given.items()}, cards=groups, regions=places
    )
    kept = [
        (name, value)
        for name, values in given.items()
        for value in (values[1:] if name in form.fields else values)
    ]
    return {
        "form": form,
        "kept": [(name, value, _less(given, name, value)) for name, value in kept],
    }


def _nearby(given: Params, query: OfferQuery) -> list[dict[str, Any]]:
    """The smallest changes that would find something, each as words and as an address."""
    return [
        {
            "url": f"/?{urlencode(_changed(given, item['changes']), doseq=True)}",
            "text": ", ".join(_spelled(change) for change in item["changes"]),
            "count": item["count"],
            "price": item["price_per_gpu_hour"],
        }
        for item in relaxations(query)
    ]


def _changed(given: Params, changes: list[dict[str, Any]]) -> Params:
    changed = dict(given)
    for change in changes:
        values = change["to"] if isinstance(change["to"], list) else [change["to"]]
        changed[change["field"]] = [_written(value) for value in values if value is not None]
    return {name: values for name, values in changed.items() if values}


def _spelled(change: dict[str, Any]) -> str:
    field = FilterForm.base_fields.get(change["field"])
    name = str(field.label) if field else change["field"]
    to = change["to"]
    if to in (None, "", []):
        return _("%(name)s: any") % {"name": name}
    listed = ", ".join(map(_written, to if isinstance(to, list) else [to]))
    choices = dict(getattr(field, "choices", ()))
    return f"{name}: {choices.get(listed, listed)}"


def _written(value: Any) -> str:
    """A filter's value as an address has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _less(given: Params, name: str, value: str) -> str:
    """The same address without one filter."""
    left = {
        other: kept
        for other, values in given.items()
        if (kept := [v for v in values if (other, v) != (name, value)])
    }
    return f"/?{urlencode(left, doseq=True)}"


def _offer_query(given: Params) -> str:
    kept = [(name, given[name][0]) for name in ("gpus", "interruptible") if name in given]
    return f"?{urlencode(kept)}" if kept else ""


def _more(given: Params, cursor: str | None) -> str:
    return urlencode({**given, "cursor": [cursor]}, doseq=True) if cursor else ""


urls = [path("", catalogue)]
