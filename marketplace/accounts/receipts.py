"""A receipt by e-mail for each payment that arrived, ordered once and sent by mail.py.

Marking the payment and ordering the mail are one transaction, so a crash orders it later and never
twice. What it says is read from the ledger when it is sent.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from billing.facade import receipts as billing
from kernel.ids import public
from marketplace.accounts.tokens import order_notice
from marketplace.models import EmailToken, Membership

log = structlog.get_logger(__name__)
_BATCH = 100
_READERS = (Membership.Role.OWNER, Membership.Role.BILLING)


def order() -> int:
    """Order the receipts that are due; how many."""
    ordered = 0
    while True:
        with transaction.atomic(durable=True):
            paid = billing.take_paid(limit=_BATCH)
            for one in paid:
                ordered += _order(one.org_ref, one.payment_id)
        if len(paid) < _BATCH:
            return ordered


def contents(payment_id: UUID) -> tuple[dict[str, Any], list[str]]:
    """What the mail says, and to whom it goes: one mail to all who look after the money."""
    found = billing.receipt(payment_id=payment_id)
    context = {
        "receipt": found,
        "seller": settings.GPUYARD_SELLER_NAME,
        "seller_tax_id": settings.GPUYARD_SELLER_TAX_ID,
        "reference": public(found.kind, found.reference),
    }
    return context, [reader.user.email for reader in _readers(found.org_ref)]


def _order(org_ref: UUID, payment_id: UUID) -> bool:
    readers = _readers(org_ref)
    if not readers:
        log.warning("receipt_without_reader", payment=str(payment_id))
        return False
    order_notice(readers[0].user, EmailToken.Purpose.RECEIPT, about=str(payment_id))
    return True


def _readers(org_ref: UUID) -> list[Membership]:
    members = Membership.objects.filter(organization=org_ref, role__in=_READERS)
    return list(members.select_related("user").order_by("id"))
