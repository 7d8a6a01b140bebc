"""The month's end closes the period of every post-paid organization."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F

from billing.invoicing.close_period import close_period
from billing.models import Account, AccountKind, Invoice, RentalMeter
from kernel.clock import now
from kernel.errors import Refusal
from kernel.turns import each

log = structlog.get_logger(__name__)
# The last hour is settled and sealed a quarter past the hour; nothing of it comes later.
AFTER = timedelta(hours=1)


def close_due() -> int:
    """Close last month where it is not closed yet; the number of invoices made."""
    present = now()
    month = present.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if present < month + AFTER:
        return 0
    return sum(each("month_end", _due(month), lambda org_ref: _close(org_ref, month)))


def _due(month: datetime) -> list[UUID]:
    postpaid = Account.objects.filter(kind=AccountKind.TENANT, credit_limit_micro__gt=0)
    open_orgs = RentalMeter.objects.filter(
        org_ref__in=postpaid.values("owner_ref"), invoiced_seq__lt=F("next_seq") - 1
    )
    closed = Invoice.objects.filter(period_to__gte=month).values("org_ref")
    return list(
        open_orgs.exclude(org_ref__in=closed)
        .order_by("org_ref")
        .values_list("org_ref", flat=True)
        .distinct()
    )


def _close(org_ref: UUID, month: datetime) -> bool:
    try:
        with transaction.atomic():
            close_period(org_ref=org_ref, actor="system", up_to=month)
    except Refusal as refusal:
        # Nothing, or too little, of last month: the next month takes it along.
        log.debug("period_not_closed", org=str(org_ref), why=refusal.detail)
        return False
    return True
