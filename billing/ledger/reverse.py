"""The opposite of a transaction that was posted before, leg by leg."""

from __future__ import annotations

from uuid import UUID

from billing.ledger.post import Leg
from billing.models import CauseType, Posting, Transaction, TransactionKind


def posted(kind: TransactionKind, cause_type: CauseType, cause_id: UUID) -> UUID | None:
    """The transaction of this kind and cause (its first round), None while there is none."""
    return (
        Transaction.objects.filter(kind=kind, cause_type=cause_type, cause_id=cause_id, round=1)
        .values_list("id", flat=True)
        .first()
    )


def reversed_legs(txn_id: UUID) -> tuple[Leg, ...]:
    """Each leg of the transaction with the other sign."""
    rows = Posting.objects.filter(txn=txn_id).values_list("account_id", "amount_micro")
    return tuple((account, -amount) for account, amount in rows)
