"""Cost exports: billing's rows with the names that people gave their rentals.

Rows come page by page and names with one query per page, so an export of any length holds a page
in memory and no transaction open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from billing.contracts.usage import CostKey, CostRow, CostTotal
from billing.facade import usage as billing
from kernel.ids import public
from kernel.money import CURRENCY, format_micro
from kernel.sheet import Cell
from marketplace.models import Offer, Organization, Project, Rental

COLUMNS = (
    *("charge", "transaction", "kind", "category", "from", "to", "seconds", "quantity", "unit"),
    *("accelerator", "rental", "rental_name", "project", "project_name", "region"),
    *("price_per_hour", "list_amount", "amount", "tax", "currency", "invoice", "text"),
)


# What the quantity of a use counts.
UNITS = {"usage": "GPU", "disk_usage": "GiB"}


@dataclass(frozen=True)
class Cost:
    """A cost row with what it was for; rental is None for what belongs to none."""

    row: CostRow
    rental: Rental | None

    @property
    def rental_id(self) -> str | None:
        ref = self.row.rental_ref
        return public("rental", ref) if ref else None

    @property
    def project(self) -> Project | None:
        return self.rental.project if self.rental else None

    @property
    def offer(self) -> Offer | None:
        return self.rental.offer if self.rental else None


def costs(organization: Organization, from_at: datetime, to_at: datetime) -> Iterator[Cost]:
    """Everything the organization's use cost in [from_at, to_at)."""
    for page in billing.cost_pages(org_ref=organization.id, from_at=from_at, to_at=to_at):
        refs = {row.rental_ref for row in page if row.rental_ref}
        rentals = Rental.objects.filter(organization=organization).select_related(
            "project", "offer__datacenter", "offer__provider__organization"
        )
        known = rentals.in_bulk(refs)
        for row in page:
            yield Cost(row, known.get(row.rental_ref) if row.rental_ref else None)


def table(organization: Organization, from_at: datetime, to_at: datetime) -> Iterator[list[Cell]]:
    """The plain export: a row of names, then one per usage line and credit."""
    yield list(COLUMNS)
    for cost in costs(organization, from_at, to_at):
        yield _cells(cost)


def seller_of(offer: Offer | None) -> str:
    """Who sells the compute of an offer: we where we are its principal, else its owner."""
    if offer is None or settings.GPUYARD_ROLES[offer.ownership] == "principal":
        return str(settings.GPUYARD_SELLER_NAME)
    return offer.provider.organization.name


def totals(
    organization: Organization, from_at: datetime, to_at: datetime, by: str
) -> list[CostTotal]:
    """Sums by rental, project, accelerator or day; keys of rentals and projects are public ids."""
    key = CostKey.RENTAL if by == "project" else CostKey(by)
    found = billing.cost_totals(org_ref=organization.id, from_at=from_at, to_at=to_at, by=key)
    if key is not CostKey.RENTAL:
        return found
    if by == "rental":
        return [_named(one, public("rental", UUID(one.key)) if one.key else None) for one in found]
    projects = dict(
        Rental.objects.filter(organization=organization, project__isnull=False).values_list(
            "id", "project"
        )
    )
    sums: dict[str | None, CostTotal] = {}
    for one in found:
        project = projects.get(UUID(one.key)) if one.key else None
        name = public("project", project) if project else None
        sums[name] = _sum(sums[name], one) if name in sums else _named(one, name)
    return list(sums.values())


def _named(one: CostTotal, key: str | None) -> CostTotal:
    return CostTotal(key, one.gpu_seconds, one.usage_micro, one.credit_micro, one.tax_micro)


def _sum(one: CostTotal, other: CostTotal) -> CostTotal:
    return CostTotal(
        one.key,
        one.gpu_seconds + other.gpu_seconds,
        one.usage_micro + other.usage_micro,
        one.credit_micro + other.credit_micro,
        one.tax_micro + other.tax_micro,
    )


def _cells(cost: Cost) -> list[Cell]:
    row, project = cost.row, cost.project
    return [
        public("charge", row.charge_id) if row.charge_id else None,
        public("transaction", row.txn_id),
        row.kind,
        row.category.value if row.category else None,
        row.from_at,
        row.to_at,
        row.seconds,
        row.gpus,
        UNITS.get(row.kind),
        row.accelerator,
        cost.rental_id,
        cost.rental.name if cost.rental else None,
        project.public_id if project else None,
        project.name if project else None,
        cost.offer.region if cost.offer else None,
        None if row.price_micro_h is None else format_micro(row.price_micro_h, places=6),
        format_micro(row.list_micro, places=6),
        format_micro(row.cost_micro, places=6),
        format_micro(row.tax_micro, places=6),
        CURRENCY,
        row.invoice,
        row.text,
    ]
