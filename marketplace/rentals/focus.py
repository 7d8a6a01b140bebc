"""The cost export in the columns of FOCUS, the FinOps Open Cost and Usage Specification.

Written for version 1.3: its mandatory columns, and ProviderName and PublisherName, which 1.3
deprecates and readers of 1.2 need. Null is an empty cell. What is ours alone begins with x_.

A cost is what the ledger took for use, to the micro-unit, whether it was paid in advance or on an
invoice: payments are no rows. PricingQuantity has nine places, so its product with the unit price
is the cost but for rounding; ConsumedQuantity is exact. A cost paid in parts of a cent is rounded
on invoices, so their number stands in x_InvoiceNumber and not in InvoiceId.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings

from billing.contracts.usage import CostCategory
from kernel.ids import public
from kernel.money import CURRENCY, format_micro
from kernel.sheet import Cell
from marketplace.models import Organization
from marketplace.rentals.costs import UNITS, Cost, costs, seller_of

VERSION = "1.3"
_SERVICE = "GPU rental"
_EXACT = Decimal("0.000000001")

# In FOCUS's own order; see _row for each value.
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType"),
    *("BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory"),
    *("ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *("ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceIssuerName"),
    *("ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName"),
    *("ResourceType", "ServiceCategory", "ServiceName", "ServiceProviderName"),
    *("ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"),
    *("SubAccountId", "SubAccountName", "SubAccountType", "Tags"),
    *("x_ChargeId", "x_InvoiceNumber", "x_TransactionId", "x_TransactionKind"),
)


def table(organization: Organization, from_at: datetime, to_at: datetime) -> Iterator[list[Cell]]:
    """The column names, then a row per usage line, credit and adjustment; tax is a row of its
    own."""
    yield list(COLUMNS)
    for cost in costs(organization, from_at, to_at):
        if cost.row.category is not None:
            yield _row(organization, cost, cost.row.category)
        if cost.row.tax_micro:
            yield _row(organization, cost, CostCategory.TAX)


def _row(organization: Organization, cost: Cost, category: CostCategory) -> list[Cell]:
    cells = {
        **_who(organization, cost),
        **_when(cost),
        **_what(cost, category),
        **_how_much(cost, category),
        "x_ChargeId": _id("charge", cost.row.charge_id),
        "x_InvoiceNumber": cost.row.invoice,
        "x_TransactionId": public("transaction", cost.row.txn_id),
        "x_TransactionKind": cost.row.kind,
    }
    return [cells[name] for name in COLUMNS]


def _who(organization: Organization, cost: Cost) -> dict[str, Cell]:
    us = settings.GPUYARD_SELLER_NAME
    seller = seller_of(cost.offer)
    project = cost.project
    return {
        "BillingAccountId": organization.public_id,
        "BillingAccountName": organization.name,
        "BillingAccountType": "Organization",
        "InvoiceIssuerName": us,
        "ProviderName": us,
        "PublisherName": seller,
        "ServiceProviderName": seller,
        "HostProviderName": cost.offer.provider.organization.name if cost.offer else us,
        "SubAccountId": project.public_id if project else None,
        "SubAccountName": project.name if project else None,
        "SubAccountType": "Project" if project else None,
    }


def _when(cost: Cost) -> dict[str, Cell]:
    """A charge period is never empty: what was posted at a moment has the second that follows."""
    begins = cost.row.from_at
    month = begins.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    ends = cost.row.to_at
    if ends == begins:
        begins = begins.replace(microsecond=0)
        ends = begins + timedelta(seconds=1)
    return {
        "BillingPeriodStart": month,
        "BillingPeriodEnd": following,
        "ChargePeriodStart": begins,
        "ChargePeriodEnd": ends,
    }


def _what(cost: Cost, category: CostCategory) -> dict[str, Cell]:
    row, rental, offer = cost.row, cost.rental, cost.offer
    use, disk = category is CostCategory.USAGE, row.kind == "disk_usage"
    dynamic = rental is not None and rental.interruptible
    sku = row.accelerator if category is not CostCategory.TAX else None
    tags: dict[str, object] = dict(rental.labels) if rental else {}
    return {
        "ChargeCategory": category.value,
        "ChargeClass": None,
        "ChargeDescription": row.text or row.kind,
        "ChargeFrequency": "Usage-Based" if use else "One-Time",
        "PricingCategory": ("Dynamic" if dynamic else "Standard") if use else None,
        "RegionId": offer.region if offer else None,
        "RegionName": offer.region if offer else None,
        "ResourceId": cost.rental_id,
        "ResourceName": rental.name if rental else None,
        "ResourceType": "GPU rental" if cost.rental_id else None,
        "ServiceCategory": "Storage" if disk else "Compute",
        "ServiceName": "Disks" if disk else _SERVICE,
        "ServiceSubcategory": "Block Storage" if disk else "Containers",
        "SkuId": sku,
        "SkuMeter": ("Disk time" if disk else "GPU time") if sku else None,
        "SkuPriceId": _price_id(cost) if sku and use else None,
        "SkuPriceDetails": _json({"GpuCount": row.gpus}) if sku and use and not disk else None,
        "Tags": _json(tags),
    }


def _how_much(cost: Cost, category: CostCategory) -> dict[str, Cell]:
    row = cost.row
    amount, price = row.cost_micro, row.list_micro
    if category is CostCategory.TAX:
        amount = price = row.tax_micro
    cells: dict[str, Cell] = {
        "BillingCurrency": CURRENCY,
        "BilledCost": _money(amount),
        "EffectiveCost": _money(amount),
        "ContractedCost": _money(price),
        "ListCost": _money(price),
    }
    cells |= dict.fromkeys(
        ("ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "ListUnitPrice")
    )
    cells["ContractedUnitPrice"] = None
    if (
        category is CostCategory.USAGE
        and row.seconds
        and row.gpus
        and row.price_micro_h is not None
    ):
        seconds = row.seconds * row.gpus
        unit_of = UNITS[row.kind]
        unit = Decimal(row.price_micro_h or 0) / row.gpus / 1_000_000
        cells["ConsumedQuantity"], cells["ConsumedUnit"] = seconds, f"{unit_of}-Seconds"
        cells["PricingQuantity"] = f"{(Decimal(seconds) / 3600).quantize(_EXACT):f}"
        cells["PricingUnit"] = f"{unit_of}-Hours"
        cells["ListUnitPrice"] = cells["ContractedUnitPrice"] = f"{unit.quantize(_EXACT):f}"
    return cells


def _price_id(cost: Cost) -> str | None:
    row = cost.row
    if row.price_micro_h is None or not row.gpus or row.accelerator is None:
        return None
    return f"{row.accelerator}@{_money(row.price_micro_h // row.gpus)}"


def _json(values: dict[str, object]) -> str | None:
    kept = {name: value for name, value in values.items() if value is not None}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False) if kept else None


def _money(micro: int) -> str:
    return format_micro(micro, places=6)


def _id(kind: str, ref: UUID | None) -> str | None:
    return public(kind, ref) if ref else None
