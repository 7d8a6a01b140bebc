"""What was held for one rental and given back, for people who have to explain it. Reads only."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Sum

from billing.contracts import HoldMoveView
from billing.models import AccountKind, CauseType, Posting, TransactionKind

_KINDS = (TransactionKind.HOLD, TransactionKind.HOLD_REFILL, TransactionKind.HOLD_RELEASE)


def hold_moves(*, rental_ref: UUID) -> list[HoldMoveView]:
    """Moves between a tenant's balance and what is held for this rental, oldest first.

    amount_micro: what the hold grew by; negative where it was given back.
    """
    legs = Posting.objects.filter(
        txn__kind__in=_KINDS,
        txn__cause_type=CauseType.RENTAL,
        txn__cause_id=rental_ref,
        account__kind=AccountKind.TENANT_HOLD,
    )
    rows = legs.values("txn", "txn__kind", "txn__at").annotate(total=Sum("amount_micro"))
    return [
        HoldMoveView(
            txn_id=row["txn"], kind=row["txn__kind"], at=row["txn__at"], amount_micro=row["total"]
        )
        for row in rows.order_by("txn__at", "txn")
    ]
