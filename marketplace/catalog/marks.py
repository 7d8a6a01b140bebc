"""What sets an offer apart among those that match a question: cheapest, most reliable, ...

Facts about the whole list, not about the page of it: the extremes come from one statement over
every match. Where all are alike nothing is said, and nothing is said of what was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db.models import Count, Max, Min

from marketplace.catalog.query import OfferQuery
from marketplace.catalog.search import OfferRow
from marketplace.catalog.stock import fitting, price_column

# Name -> the column, in the order in which they are told.
_MEASURED: Final[Mapping[str, str]] = {
    "most_reliable": "group__reliability_bp",
    "fastest_machine": "group__score",
    "largest_block": "group__largest_block",
    "fastest_disk": "group__disk_read_mib_s",
    "fastest_network": "group__net_down_mbps",
}
Best = Mapping[str, Any]  # name -> the value that deserves it; without those that none does


def best(query: OfferQuery) -> Best:
    """The extremes among everything that matches; one statement."""
    price = price_column(query)
    asked: dict[str, Any] = {"offers": Count("id"), "low": Min(price), "high": Max(price)}
    for name, column in _MEASURED.items():
        asked |= {f"{name}_least": Min(column), f"{name}_most": Max(column)}
        asked[f"{name}_known"] = Count(column)
    found = fitting(query).order_by().aggregate(**asked)
    if found["offers"] < 2:
        return {}
    extremes = {"cheapest": found["low"]} if found["low"] < found["high"] else {}
    for name in _MEASURED:
        most, least, known = (found[f"{name}_{part}"] for part in ("most", "least", "known"))
        if most and (least < most or known < found["offers"]):
            extremes[name] = most
    return extremes


def marks(row: OfferRow, extremes: Best) -> list[str]:
    """What this offer is more than the others, by name."""
    group = row.offer.group
    measured = {
        name: getattr(group, column.removeprefix("group__")) for name, column in _MEASURED.items()
    }
    found = ["cheapest"] if extremes.get("cheapest") == row.price_micro_h else []
    return found + [name for name in measured if extremes.get(name, ...) == measured[name]]
