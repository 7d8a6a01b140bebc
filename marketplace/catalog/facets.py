"""How many offers each choice of a filter would give with the other filters kept.

Offers are counted once by everything that these filters tell apart, in one statement; a filter's
counts are then sums over the rows that match all the others. The cost is one statement however
many filters and choices there are, and it grows with the kinds of offers, not with their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db.models import BooleanField, Count, ExpressionWrapper, Q

from marketplace.catalog.query import OfferQuery
from marketplace.catalog.registry import by_slug
from marketplace.catalog.stock import fitting
from provisioner.contracts.homogeneity import SharingMode
from provisioner.facade import access

# Beside each: where its value stands in a counted row.
_PLAIN: Final = {
    "vendor": "group__vendor",
    "region": "region",
    "ownership": "ownership",
    "isolation": "isolation",
    "tier": "tier",
    "storage": "group__storage_domain",
}
FACETS: Final = ("accelerator", *_PLAIN, "interconnect", "interruptible", "ssh")
ANY: Final = ""
# By filter: offers by value as an address has it, and under "" without that filter. A value that
# is missing would give none, and nobody has it on sale.
Counts = Mapping[str, Mapping[str, int]]


def counts(query: OfferQuery) -> Counts:
    """Of every filter in :data:`FACETS`, for the question as it stands."""
    tallies: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    wanted = {name: _as_text(name, query) for name in FACETS}
    for kind in _kinds(query):
        missed = []
        for name, passing in kind.choices.items():
            tally = tallies[name]
            for value in passing:  # what there is, also where the other filters leave none of it
                tally[value] += 0
            if not wanted[name].intersection(passing):
                missed.append(name)
        if len(missed) > 1:
            continue
        for name in missed or FACETS:
            for value in kind.choices[name]:
                tallies[name][value] += kind.offers
    _with_the_others(tallies["accelerator"], query.accelerator[1:])
    return tallies


def _as_text(name: str, query: OfferQuery) -> frozenset[str]:
    """The filter's values as choices have them; "" where it says nothing."""
    value = getattr(query, name)
    if value is None or value == ():
        return frozenset({ANY})
    if isinstance(value, tuple):
        return frozenset(value)
    return frozenset({str(value).lower() if isinstance(value, bool) else value})


def _with_the_others(tally: Counter[str], others: tuple[str, ...]) -> None:
    """More than one card may be named; a choice takes the place of the first, the rest are kept."""
    if not others:
        return
    rest = sum(tally[slug] for slug in others)
    for slug in tally:
        if slug not in others and slug != ANY:
            tally[slug] += rest
    tally.update({slug: rest - tally[slug] for slug in others})
    tally[ANY] = rest


@dataclass(frozen=True)
class _Kind:
    """Offers that these filters cannot tell apart: how many, and for each filter the choices that
    let them pass; "": leaving it out."""

    choices: Mapping[str, Sequence[str]]
    offers: int


def _kinds(query: OfferQuery) -> Iterator[_Kind]:
    """Everything that the other filters leave, by kind; one statement."""
    closed: dict[str, Any] = dict.fromkeys(FACETS[1:])
    open_question = replace(query, accelerator=(), max_price=None, **closed)
    rows = (
        fitting(open_question, with_parts=True)
        .order_by()
        .values(*_PLAIN.values(), "group__accelerator", "group__sharing_mode", "group__has_relay")
        .annotate(
            cheap=_holds(_at_most("price_micro_h", query)),
            offered_so=_holds(Q(interruptible_price_micro_h__isnull=False)),
            cheap_so=_holds(
                Q(interruptible_price_micro_h__isnull=False)
                & _at_most("interruptible_price_micro_h", query)
            ),
            offers=Count("id"),
        )
    )
    cards, gateway = by_slug(), access.has_gateway()
    for row in rows:
        choices: dict[str, Sequence[str]] = {
            name: (ANY, row[column]) for name, column in _PLAIN.items()
        }
        choices["accelerator"] = _cards(row, query)
        card = cards.get(row["group__accelerator"])
        choices["interconnect"] = (ANY, (card.interconnect if card else None) or "none")
        choices["interruptible"] = _uses(row)
        way_in = gateway and row["group__has_relay"]
        choices["ssh"] = (ANY, "true" if way_in else "false")
        yield _Kind(choices, row["offers"])


def _cards(row: Mapping[str, Any], query: OfferQuery) -> Sequence[str]:
    """Who names no card means whole ones (stock.py)."""
    is_whole = row["group__sharing_mode"] == SharingMode.WHOLE
    slug: str = row["group__accelerator"]
    return (slug, ANY) if query.sharing_mode or is_whole else (slug,)


def _uses(row: Mapping[str, Any]) -> Sequence[str]:
    """Each use has a price of its own, so the most that is paid is compared with that."""
    found = ["true"] if row["cheap_so"] else []
    if row["cheap"]:
        found += [ANY] if row["offered_so"] else [ANY, "false"]
    return found


def _at_most(column: str, query: OfferQuery) -> Q:
    if query.max_price is None:
        return Q(**{f"{column}__isnull": False})
    return Q(**{f"{column}__lte": query.max_price})


def _holds(condition: Q) -> ExpressionWrapper[Q]:
    return ExpressionWrapper(condition, output_field=BooleanField())
