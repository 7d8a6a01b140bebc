"""The public catalogue: filters live in the URL and are read by the API's own strict parser."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import path
from django.utils.translation import gettext as _

from kernel.errors import Refusal
from kernel.money import format_micro
from marketplace.accounts.access import Principal
from marketplace.catalog import facets, marks, registry, search
from marketplace.catalog.price import HOURS_PER_MONTH
from marketplace.catalog.query import OfferQuery
from marketplace.catalog.relax import relaxations
from marketplace.http.portal.base import go, is_htmx, new_key, page, piece, show, status_of
from marketplace.http.portal.compare import MOST
from marketplace.http.portal.filters import FilterForm, choices
from marketplace.http.portal.offer_words import MARKS, spelled

Params = dict[str, list[str]]


# Three screens of a desk. Writing a row is two thirds of a page's time: with fifty it takes half as
# long again, with fewer people turn pages more than they read.
ROWS: Final = 30


@page(public=True)
def catalogue(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """Offers with filters. A form's empty fields are no filters: the address is kept clean."""
    given = _without_blanks(request.GET)
    clean_url = f"/?{urlencode(given, doseq=True)}" if given else "/"
    if not is_htmx(request) and _has_blanks(request.GET):
        return go(clean_url)
    refusal, found, query, nearby = None, None, OfferQuery(), []
    cursors = given.pop("cursor", [])
    try:
        query = search.parse(given)
        found = search.search(query, cursor=cursors[0] if cursors else None, limit=ROWS)
        if not found.rows and not cursors:
            nearby = _nearby(given, query)
    except Refusal as error:
        refusal = error
    cards, regions = registry.accelerators_and_regions()
    names = {card["slug"]: card["name"] for card in cards}
    context = {
        "refusal": refusal,
        "offers": _rows(found, names, query) if found else [],
        "nearby": nearby,
        "asked": len([name for name in given if name != "order"]),
        "gpus": found.rows[0].gpus if found and found.rows else 1,
        "disk": given.get("min_disk_gib", [""])[0],
        "most_compared": MOST,
        "offer_query": _offer_query(given),
        "next_cursor": found.next_cursor if found else None,
        "more_query": _more(given, found.next_cursor if found else None),
        "may_save": refusal is None and _may_save(principal),
        "save_query": urlencode(given, doseq=True),
        "save_key": new_key(),
        **_filter_bar(given, query, cards, regions),
    }
    status = status_of(refusal)
    if is_htmx(request):
        context["fragment"] = True
        answer = piece(request, "portal/catalogue_piece.html", context, status=status)
        answer["HX-Push-Url"] = clean_url
        return answer
    return show(request, principal, "portal/catalogue.html", context, status=status)


def _may_save(principal: Principal | None) -> bool:
    """Whether searches of theirs are kept."""
    inside = principal is not None and principal.organization is not None
    return inside and principal is not None and "rentals:write" in principal.scopes


def _without_blanks(params: QueryDict) -> Params:
    return {
        name: kept for name, values in params.lists() if (kept := [v for v in values if v.strip()])
    }


def _has_blanks(params: QueryDict) -> bool:
    return any(not value.strip() for _name, values in params.lists() for value in values)


def _rows(
    found: search.OfferPage, names: dict[str, str], query: OfferQuery
) -> list[dict[str, Any]]:
    known, best = registry.by_slug(), marks.best(query)
    return [
        {
            **search.describe(row, known),
            "name": names.get(row.offer.group.accelerator, row.offer.group.accelerator),
            "per_month": format_micro(row.price_micro_h * row.gpus * HOURS_PER_MONTH),
            "marks": [MARKS[name] for name in marks.marks(row, best)],
        }
        for row in found.rows
    ]


def _filter_bar(
    given: Params, query: OfferQuery, cards: list[dict[str, Any]], regions: list[str]
) -> dict[str, Any]:
    """The form as the address says, and filters that it has no field for, kept as they are."""
    form = FilterForm(
        initial={name: values[0] for name, values in given.items()},
        choices=choices(
            facets.counts(query),
            given,
            cards=cards,
            known=registry.by_slug(),
            regions=regions,
        ),
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
    return f"{name}: {spelled(change['field'], listed)}"


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
