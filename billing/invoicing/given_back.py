"""What was given back, or taken, beside use: the lines of an invoice that lower it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Sum

from billing.models import (
    AccountKind,
    InvoiceCredit,
    Posting,
    Transaction,
    TransactionKind,
    UsageLine,
)

# What changes a tenant's account beside use, and so what it owes for a period.
_CREDITS = (
    TransactionKind.OUTAGE_CREDIT,
    TransactionKind.INCIDENT_CREDIT,
    TransactionKind.ADJUSTMENT,
    TransactionKind.PROMO_GRANT,
    TransactionKind.PROMO_EXPIRED,
)


@dataclass(frozen=True)
class GivenBack:
    """Transactions at one tax rate. amounts: what each gave, tax_micro of them all included."""

    tax_ppm: int
    amounts: dict[UUID, int]
    tax_micro: int

    @property
    def net_micro(self) -> int:
        return sum(self.amounts.values()) - self.tax_micro


def given_back(org_ref: UUID, since: datetime, up_to: datetime) -> list[GivenBack]:
    """By tax rate: what came back since the organization pays by invoice, and is on none yet."""
    legs = Posting.objects.filter(
        account__kind=AccountKind.TENANT,
        account__owner_ref=org_ref,
        txn__kind__in=_CREDITS,
        txn__at__gte=since,
        txn__at__lt=up_to,
    ).exclude(txn__in=InvoiceCredit.objects.values("txn"))
    amounts = dict(legs.values_list("txn").annotate(total=Sum("amount_micro")).order_by("txn"))
    taxes = _taxes(amounts)
    rates = _rates(taxes)
    by_rate: dict[int, dict[UUID, int]] = defaultdict(dict)
    for txn, amount in amounts.items():
        by_rate[rates.get(txn, 0)][txn] = amount
    return [
        GivenBack(rate, group, sum(taxes.get(txn, 0) for txn in group))
        for rate, group in sorted(by_rate.items())
    ]


def _taxes(amounts: dict[UUID, int]) -> dict[UUID, int]:
    """The tax that went back, by transaction; those without are absent."""
    legs = Posting.objects.filter(txn__in=amounts, account__kind=AccountKind.TAX_PAYABLE)
    return {txn: -sum_ for txn, sum_ in legs.values_list("txn").annotate(Sum("amount_micro"))}


def _rates(taxes: dict[UUID, int]) -> dict[UUID, int]:
    """The rate of each: that of the use it is linked to."""
    linked = dict(Transaction.objects.filter(id__in=taxes).values_list("id", "linked"))
    lines = UsageLine.objects.filter(txn__in=[ref for ref in linked.values() if ref])
    rates = dict(lines.values_list("txn", "meter__tax_ppm"))
    return {txn: rates[ref] for txn, ref in linked.items() if ref in rates}
