"""What of a balance was bought and is unspent: all that may ever go back to a card.

A tenant's moves are walked in their order. What was given (outage credit, promotions, adjustments,
credit notes) is spent first: ``given`` rises by it, falls by what is spent and never below zero.
Unspent purchased credit is the balance, holds included, less ``given``. So given money is never
paid out, whatever is bought before or after it.

    refundable = min(balance + held - given - disputed, balance, balance - floor, rest of payments)

Top-ups, their refunds and lost disputes change the balance and not ``given``. So does an invoice:
it turns a debt into a receivable, and nobody was given anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection
from django.db.models import F, Sum

from billing.ledger.accounts import Purse
from billing.models import Dispute, Payment, TransactionKind
from billing.payments.topup_tax import net_left
from kernel.money import MICRO_PER_MINOR, from_minor

INNER = (TransactionKind.HOLD, TransactionKind.HOLD_REFILL, TransactionKind.HOLD_RELEASE)
BOUGHT = (
    TransactionKind.TOPUP,
    TransactionKind.REFUND,
    TransactionKind.REFUND_RETURNED,
    TransactionKind.DISPUTE_WON,
    TransactionKind.DISPUTE_LOST,
    TransactionKind.INVOICE,
    TransactionKind.INVOICE_VOID,
)

# A walk that is held up at zero ends at its sum less the lowest sum on the way. A tenant's postings
# are numbered under its account's row lock, so their numbers are their order.
_WALK = """
WITH move AS (
  SELECT max(p.id) AS place, sum(p.amount_micro) AS amount,
         sum(p.amount_micro) FILTER (WHERE t.kind <> ALL(%(bought)s)) AS free
    FROM billing_posting p JOIN billing_transaction t ON t.id = p.txn_id
   WHERE p.account_id = ANY(%(accounts)s) AND t.kind <> ALL(%(inner)s)
   GROUP BY p.txn_id
), walk AS (
  SELECT place, amount, sum(coalesce(free, 0)) OVER (ORDER BY place) AS level FROM move
)
SELECT coalesce(sum(amount), 0)::bigint,
       coalesce((SELECT level FROM walk ORDER BY place DESC LIMIT 1), 0)::bigint
         - least(coalesce(min(level), 0), 0)::bigint
  FROM walk
"""


@dataclass(frozen=True)
class Left:
    """has: balance and holds together; given: what of it was never bought."""

    has_micro: int
    given_micro: int

    @property
    def purchased_micro(self) -> int:
        return max(0, self.has_micro - self.given_micro)


def left(purse: Purse) -> Left:
    """The walk over all of a tenant's moves."""
    with connection.cursor() as cursor:
        cursor.execute(
            _WALK,
            {
                "accounts": [purse.tenant, purse.hold],
                "bought": [kind.value for kind in BOUGHT],
                "inner": [kind.value for kind in INNER],
            },
        )
        row = cursor.fetchone()
    assert row is not None
    return Left(has_micro=row[0], given_micro=row[1])


def payments_left(purse: Purse) -> list[Payment]:
    """Top-ups that came in and are not refunded in full, newest first; none that a bank contests or
    took back, because Stripe refuses those."""
    contested = Dispute.objects.exclude(state__in=("won", "warning_closed", "prevented"))
    return list(
        Payment.objects.filter(
            org_ref=purse.org_ref,
            kind="topup",
            txn__isnull=False,
            refunded_minor__lt=F("amount_minor"),
        )
        .exclude(id__in=contested.filter(org_ref=purse.org_ref).values("payment"))
        .order_by("-id")
    )


def refundable(purse: Purse) -> int:
    """The most that can go back now, in whole cents as micro-units. The purse is locked."""
    rest = sum(net_left(one) for one in payments_left(purse))
    most = min(
        left(purse).purchased_micro - _contested(purse),
        purse.balance_micro,
        purse.available_micro,
        from_minor(rest),
    )
    return max(0, most) // MICRO_PER_MINOR * MICRO_PER_MINOR


def _contested(purse: Purse) -> int:
    """What open disputes may still take: it must stay here until they are decided."""
    total = Dispute.objects.filter(org_ref=purse.org_ref, closed_at__isnull=True).aggregate(
        total=Sum("amount_minor")
    )["total"]
    return from_minor(total or 0)
