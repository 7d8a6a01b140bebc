"""A tenant's statement: what changed what it has with us, and why."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Sum

from billing.contracts import TransactionView
from billing.models import (
    Account,
    CauseType,
    IncidentCredit,
    Posting,
    Transaction,
    TransactionKind,
    UsageLine,
)
from billing.models.account import STORED
from kernel.errors import NotFound

# Moves between available and held are no news: they change nothing of what the tenant has.
_INNER = (TransactionKind.HOLD, TransactionKind.HOLD_REFILL, TransactionKind.HOLD_RELEASE)

_LINES = (CauseType.USAGE, CauseType.DISK_USAGE)

_TEXTS = {
    TransactionKind.TOPUP: "Credit added",
    TransactionKind.INVOICE: "Moved to an invoice",
    TransactionKind.INVOICE_VOID: "Invoice cancelled",
    TransactionKind.OUTAGE_CREDIT: "Given back",
    TransactionKind.INCIDENT_CREDIT: "Credit for an incident",
    TransactionKind.REFUND: "Refunded",
    TransactionKind.REFUND_RETURNED: "Refund failed, credit returned",
    TransactionKind.DISPUTE_LOST: "Payment taken back by the bank",
    TransactionKind.DISPUTE_WON: "Payment given back by the bank",
    TransactionKind.CREDIT_NOTE: "Credit note",
    TransactionKind.ADJUSTMENT: "Adjusted by our staff",
    TransactionKind.PROMO_GRANT: "Promotional credit",
    TransactionKind.PROMO_EXPIRED: "Promotional credit expired",
}


def transactions(*, org_ref: UUID, limit: int, after: UUID | None = None) -> list[TransactionView]:
    """Newest first; ``after`` is the last id of the page before. Holds are left out.

    amount_micro is the effect on available and held together, so the amounts of all pages add up
    to what the tenant has.
    """
    own = list(Account.objects.filter(owner_ref=org_ref, kind__in=STORED).values_list("id"))
    if not own:
        raise NotFound("organization")
    legs = Posting.objects.filter(account__in=[row[0] for row in own]).exclude(txn__kind__in=_INNER)
    if after is not None:
        legs = legs.filter(txn__lt=after)
    sums = dict(
        legs.values("txn")
        .annotate(total=Sum("amount_micro"))
        .order_by("-txn")
        .values_list("txn", "total")[:limit]
    )
    rows = list(Transaction.objects.filter(id__in=sums).order_by("-id"))
    uses = _uses(rows) | _incidents(rows)
    return [
        TransactionView(
            id=row.id,
            kind=row.kind,
            at=row.at,
            amount_micro=sums[row.id],
            text=_text(row, uses.get(row.cause_id)),
            cause_type=row.cause_type,
            cause_id=str(row.cause_id),
        )
        for row in rows
    ]


def _text(row: Transaction, use: str | None) -> str:
    kind = TransactionKind(row.kind)
    if row.cause_type == CauseType.OUTAGE:
        return "Credit for an interruption"
    if use is None:
        return _TEXTS[kind]
    return f"{_TEXTS[kind]}: {use}" if kind in _TEXTS else use


def _incidents(rows: Iterable[Transaction]) -> dict[UUID, str]:
    ids = [row.cause_id for row in rows if row.cause_type == CauseType.INCIDENT]
    found = IncidentCredit.objects.filter(id__in=ids) if ids else IncidentCredit.objects.none()
    return dict(found.values_list("id", "title"))


def _uses(rows: Iterable[Transaction]) -> dict[UUID, str]:
    ids = [row.cause_id for row in rows if row.cause_type in _LINES]
    lines = UsageLine.objects.filter(id__in=ids).select_related("meter")
    return {
        line.id: f"{line.meter.description}: {line.seconds} s to {line.to_at:%Y-%m-%d %H:%M} UTC"
        for line in lines
    }
