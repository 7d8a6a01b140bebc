"""A provider's month: every change of what it has with us, maturing and due together.

Moves between the two are no news. Sums are those of the ledger's postings by their time, so that
a month's closing is the next one's opening and all months together are the balance.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

from django.db import connection
from django.db.models import Min

from billing.contracts.payouts import StatementLine, StatementView
from billing.models import Account, AccountKind, TransactionKind
from kernel.clock import now
from kernel.errors import NotFound
from kernel.money import CURRENCY

_TEXTS = {
    TransactionKind.OUTAGE_CREDIT: "Given back to a renter",
    TransactionKind.INCIDENT_CREDIT: "Given back to a renter for an incident",
    TransactionKind.PROVIDER_GAP: "Paid for a gap",
    TransactionKind.ADJUSTMENT: "Adjustment",
    TransactionKind.PAYOUT: "Payout",
    TransactionKind.PAYOUT_RETURNED: "Payout returned",
}
_KINDS = (AccountKind.PROVIDER_PENDING, AccountKind.PROVIDER_DUE)
_SHARES = (TransactionKind.USAGE, TransactionKind.DISK_USAGE)
_PAYOUTS = (TransactionKind.PAYOUT, TransactionKind.PAYOUT_RETURNED)

_OPENING = """
SELECT coalesce(sum(p.amount_micro), 0)::bigint
  FROM billing_posting p JOIN billing_transaction t ON t.id = p.txn_id
 WHERE p.account_id = ANY(%s) AND t.at < %s
"""

# Shares per day of booking and card type; everything else one by one.
_LINES = """
SELECT min(t.at), t.kind, coalesce(nullif(m.accelerator, ''), m.kind), sum(p.amount_micro)::bigint,
       sum(u.seconds::bigint * u.gpus)::bigint
  FROM billing_posting p
  JOIN billing_transaction t ON t.id = p.txn_id
  LEFT JOIN billing_usageline u ON t.kind IN ('usage', 'disk_usage') AND u.id = t.cause_id
  LEFT JOIN billing_rentalmeter m ON m.rental_ref = u.rental_ref
 WHERE p.account_id = ANY(%s) AND t.at >= %s AND t.at < %s
   AND t.kind NOT IN ('maturity', 'clawback')
 GROUP BY t.kind, m.accelerator, m.kind, CASE WHEN u.id IS NULL THEN t.id END,
          CASE WHEN u.id IS NOT NULL THEN date_trunc('day', t.at, 'UTC') END
 ORDER BY 1, 2, 3
"""


def statement(*, provider_ref: UUID, month: date) -> StatementView:
    """The month that holds ``month`` (UTC). NotFound before the provider's first share and for a
    month that has not begun."""
    begins = datetime(month.year, month.month, 1, tzinfo=UTC)
    ends = begins.replace(year=begins.year + begins.month // 12, month=begins.month % 12 + 1)
    accounts = list(
        Account.objects.filter(owner_ref=provider_ref, currency=CURRENCY, kind__in=_KINDS)
    )
    present = now()
    if begins > present or not any(one.created_at < ends for one in accounts):
        raise NotFound("statement")
    ids = [one.id for one in accounts]
    with connection.cursor() as cursor:
        cursor.execute(_OPENING, [ids, begins])
        (opening,) = cursor.fetchone()
        cursor.execute(_LINES, [ids, begins, ends])
        lines = tuple(_line(*row) for row in cursor.fetchall())
    shares = sum(one.amount_micro for one in lines if one.kind in _SHARES)
    payouts = sum(one.amount_micro for one in lines if one.kind in _PAYOUTS)
    total = sum(one.amount_micro for one in lines)
    return StatementView(
        provider_ref=provider_ref,
        month=begins.date(),
        currency=CURRENCY,
        opening_micro=opening,
        shares_micro=shares,
        credits_micro=total - shares - payouts,
        payouts_micro=payouts,
        closing_micro=opening + total,
        final=ends <= present,
        lines=lines,
    )


def first_at(*, provider_ref: UUID) -> datetime | None:
    """Since when a provider has statements: its first share; None before that."""
    accounts = Account.objects.filter(owner_ref=provider_ref, currency=CURRENCY, kind__in=_KINDS)
    first: datetime | None = accounts.aggregate(at=Min("created_at"))["at"]
    return first


def _line(
    at: datetime, kind: str, used: str | None, amount: int, unit_seconds: int | None
) -> StatementLine:
    if used is not None:
        unit = "GiB" if kind == TransactionKind.DISK_USAGE else "GPU"
        text = f"{used}: {unit_seconds} {unit}-seconds"
    else:
        text = _TEXTS.get(TransactionKind(kind), kind.replace("_", " ").capitalize())
    return StatementLine(at=at, kind=kind, text=text, amount_micro=amount)
