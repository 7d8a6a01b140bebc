"""How much an organization has really paid, and since when: what trust is measured by."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from billing.models import AccountKind, Posting, TransactionKind

# Money that came from outside, and money that went back there. Credit that we gave is neither.
_KINDS = (
    TransactionKind.TOPUP,
    TransactionKind.INVOICE_PAYMENT,
    TransactionKind.REFUND,
    TransactionKind.REFUND_RETURNED,
    TransactionKind.DISPUTE,
    TransactionKind.DISPUTE_WON,
)


def settled_since(*, org_ref: UUID, amounts: Collection[int]) -> dict[int, datetime]:
    """Since when at least so much is settled and stayed so, for each amount that is reached.

    What was refunded or is disputed does not count, and what is paid after it counts from then.
    """
    legs = Posting.objects.filter(
        account__owner_ref=org_ref,
        account__kind__in=(AccountKind.TENANT, AccountKind.INVOICE_AR),
        txn__kind__in=_KINDS,
    )
    total, since = 0, dict[int, datetime]()
    for at, amount in legs.order_by("txn__at", "id").values_list("txn__at", "amount_micro"):
        total += amount
        for wanted in amounts:
            if total < wanted:
                since.pop(wanted, None)
            else:
                since.setdefault(wanted, at)
    return since
