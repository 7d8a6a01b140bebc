"""Write transactions: all of a batch in one statement, balanced or refused by the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connection

from billing.models import CauseType, TransactionKind
from kernel.ids import new_id
from kernel.money import CURRENCY

Leg = tuple[UUID, int]


@dataclass(frozen=True)
class Entry:
    """A transaction to be written: one cause, legs that sum to zero; zero legs are left out."""

    kind: TransactionKind
    cause_type: CauseType
    cause_id: UUID
    legs: tuple[Leg, ...]
    linked: UUID | None = None
    round: int = 1
    id: UUID = field(default_factory=new_id)


def post(entries: Sequence[Entry]) -> None:
    """Write the entries and move the stored balances.

    The caller is in a transaction and holds the locks of the tenants it takes money from; an
    overdrawn or unbalanced entry raises IntegrityError and leaves nothing.
    """
    if not entries:
        return
    legs = [(entry.id, account, amount) for entry in entries for account, amount in entry.legs]
    legs = [leg for leg in legs if leg[2]]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH written AS (
              INSERT INTO billing_transaction (
                id, kind, cause_type, cause_id, linked_id, round
              )
              SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::uuid[],
                                   %s::int[])
            )
            INSERT INTO billing_posting (txn_id, account_id, amount_micro, currency)
            SELECT *, %s FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[])
            """,
            [
                [entry.id for entry in entries],
                [entry.kind.value for entry in entries],
                [entry.cause_type.value for entry in entries],
                [entry.cause_id for entry in entries],
                [entry.linked for entry in entries],
                [entry.round for entry in entries],
                CURRENCY,
                [leg[0] for leg in legs],
                [leg[1] for leg in legs],
                [leg[2] for leg in legs],
            ],
        )
