"""How much organizations have really paid, and since when: what trust is measured by."""

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


def settled_since(
    *, org_refs: Collection[UUID], amounts: Collection[int]
) -> dict[UUID, dict[int, datetime]]:
    """By organization: since when at least so much is settled and stayed so, for each amount that
    is reached. One query.

    What was refunded or is disputed does not count, and what is paid after it counts from then.
    """
    legs = Posting.objects.filter(
        account__owner_ref__in=org_refs,
        account__kind__in=(AccountKind.TENANT, AccountKind.INVOICE_AR),
        txn__kind__in=_KINDS,
    )
    totals = dict.fromkeys(org_refs, 0)
    found: dict[UUID, dict[int, datetime]] = {org_ref: {} for org_ref in org_refs}
    moves = legs.order_by("txn__at", "id").values_list(
        "account__owner_ref", "txn__at", "amount_micro"
    )
    for org_ref, at, amount in moves:
        assert org_ref is not None, "these accounts are somebody's"
        totals[org_ref] += amount
        for wanted in amounts:
            if totals[org_ref] < wanted:
                found[org_ref].pop(wanted, None)
            else:
                found[org_ref].setdefault(wanted, at)
    return found
