"""The accelerator registry as the catalogue uses it: by slug, and as words a filter may take."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Min, Q, Sum

from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339
from marketplace.catalog.needs import whole_gib
from marketplace.catalog.query import Vocabulary
from marketplace.catalog.stock import on_sale
from marketplace.models import DataCenter, Provider
from provisioner import facade as provisioner
from provisioner.contracts import Accelerator


def by_slug() -> dict[str, Accelerator]:
    """Every row of the registry."""
    return {row.slug: row for row in provisioner.accelerators()}


def vocabulary() -> Vocabulary:
    """The closed lists that filters are checked against."""
    rows = provisioner.accelerators()
    return Vocabulary(
        accelerators=frozenset(row.slug for row in rows),
        vendors=frozenset(row.vendor for row in rows),
        interconnects=frozenset(row.interconnect for row in rows if row.interconnect),
    )


def accelerators() -> list[dict[str, Any]]:
    """Every known card with the number on sale and free now, and the lowest price of those."""
    return accelerators_and_regions()[0]


def accelerators_and_regions() -> tuple[list[dict[str, Any]], list[str]]:
    """The same, and the regions in which anything is on sale; one statement for both."""
    rows = (
        on_sale()
        .order_by()
        .values("group__accelerator")
        .annotate(
            free=Sum("group__slots_free"),
            lowest=Min("price_micro_h", filter=Q(group__slots_free__gt=0)),
            regions=ArrayAgg("region", distinct=True),
        )
    )
    stock: dict[str, Any] = {row["group__accelerator"]: row for row in rows}
    none = {"free": 0, "lowest": None}
    cards = [_accelerator(row, stock.get(row.slug, none)) for row in provisioner.accelerators()]
    return cards, sorted({region for row in stock.values() for region in row["regions"]})


def _accelerator(row: Accelerator, stock: dict[str, Any]) -> dict[str, Any]:
    lowest = stock["lowest"]
    return {
        "slug": row.slug,
        "vendor": row.vendor,
        "name": row.name,
        "memory_gib": whole_gib(row.memory_mib),
        "sharing_modes": list(row.sharing_modes),
        "partition": row.partition,
        "toolkit": row.toolkit,
        "interconnect": row.interconnect,
        "in_stock": stock["free"],
        "from_price": None if lowest is None else format_micro(lowest),
        "currency": CURRENCY,
    }


def regions() -> list[dict[str, Any]]:
    """The regions with a data centre of an approved owner."""
    rows = (
        DataCenter.objects.filter(provider__state=Provider.State.APPROVED)
        .order_by("region", "country")
        .values_list("region", "country")
        .distinct()
    )
    storage = _storage("datacenter__region", "datacenter__country")
    return [
        {
            "id": region,
            "region": region,
            "country": country,
            "storage": sorted(storage.get((region, country), {"none"})),
        }
        for region, country in rows
    ]


def datacenters() -> list[dict[str, Any]]:
    """The data centres of approved owners."""
    rows = DataCenter.objects.filter(provider__state=Provider.State.APPROVED).select_related(
        "provider"
    )
    storage = _storage("datacenter")
    return [
        {
            "id": row.public_id,
            "name": row.name,
            "region": row.region,
            "country": row.country,
            "ownership": row.provider.ownership,
            "storage": _farthest(storage.get((row.id,), set())),
            "disk_price": format_micro(row.disk_price_micro_gib_month),
            "currency": CURRENCY,
            "created_at": rfc3339(row.created_at),
            "version": row.version,
        }
        for row in rows.order_by("region", "id")
    ]


def _storage(*by: str) -> dict[tuple[Any, ...], set[str]]:
    """The storage domains of what is on sale, by place; one query for all."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for *place, domain in on_sale().order_by().values_list(*by, "group__storage_domain").distinct():
        found.setdefault(tuple(place), set()).add(domain)
    return found


def _farthest(domains: set[str]) -> str:
    """How far data can reach there at best."""
    return next((name for name in ("cluster", "node") if name in domains), "none")
