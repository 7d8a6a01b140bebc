"""What an organization's use cost, read from its postings, so that it cannot differ from them.

What an organization has with us is four accounts. A kind of transaction that changes their sum is
either a cost (use, credits, adjustments) or a payment: money between us and the payer, which no
cost report counts. Refunds are payments: they return credit that was never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from billing.contracts.usage import CostCategory, CostKey, CostRow, CostTotal
from billing.models import Account, AccountKind, TransactionKind

_HAS = (
    AccountKind.TENANT,
    AccountKind.TENANT_HOLD,
    AccountKind.TENANT_PROMO,
    AccountKind.INVOICE_AR,
)

CATEGORIES: dict[TransactionKind, CostCategory | None] = {
    TransactionKind.USAGE: CostCategory.USAGE,
    TransactionKind.DISK_USAGE: CostCategory.USAGE,
    TransactionKind.OUTAGE_CREDIT: CostCategory.CREDIT,
    TransactionKind.INCIDENT_CREDIT: CostCategory.CREDIT,
    TransactionKind.CREDIT_NOTE: CostCategory.CREDIT,
    TransactionKind.PROMO_GRANT: CostCategory.CREDIT,
    TransactionKind.PROMO_EXPIRED: CostCategory.CREDIT,
    TransactionKind.ADJUSTMENT: CostCategory.ADJUSTMENT,
    TransactionKind.DISPUTE_FEE: CostCategory.ADJUSTMENT,
    # Payments, and moves that leave the sum as it is.
    TransactionKind.TOPUP: None,
    TransactionKind.INVOICE: None,
    TransactionKind.INVOICE_PAYMENT: None,
    TransactionKind.INVOICE_VOID: None,
    TransactionKind.BAD_DEBT: None,
    TransactionKind.REFUND: None,
    TransactionKind.REFUND_RETURNED: None,
    TransactionKind.DISPUTE: None,
    TransactionKind.DISPUTE_WON: None,
    TransactionKind.DISPUTE_LOST: None,
    TransactionKind.HOLD: None,
    TransactionKind.HOLD_REFILL: None,
    TransactionKind.HOLD_RELEASE: None,
    # Between us and others: no account of the organization is in them.
    TransactionKind.STRIPE_FEE: None,
    TransactionKind.PROVIDER_GAP: None,
    TransactionKind.MATURITY: None,
    TransactionKind.CLAWBACK: None,
    TransactionKind.PAYOUT: None,
    TransactionKind.PAYOUT_SENT: None,
    TransactionKind.PAYOUT_RETURNED: None,
}
_USES = (TransactionKind.USAGE, TransactionKind.DISK_USAGE)
# Use has its own query, by rental; payments matter for the tax that came with them.
_HOLDS = (TransactionKind.HOLD, TransactionKind.HOLD_REFILL, TransactionKind.HOLD_RELEASE)
_OTHERS = [kind.value for kind in CATEGORIES if kind not in (*_USES, *_HOLDS)]
_COUNTED = [kind.value for kind, category in CATEGORIES.items() if category is not None]
_TEXTS = {
    TransactionKind.OUTAGE_CREDIT: "Given back",
    TransactionKind.INCIDENT_CREDIT: "Credit for an incident",
    TransactionKind.CREDIT_NOTE: "Credit note",
    TransactionKind.PROMO_GRANT: "Promotional credit",
    TransactionKind.PROMO_EXPIRED: "Promotional credit expired",
    TransactionKind.ADJUSTMENT: "Adjustment",
    TransactionKind.DISPUTE_FEE: "Fee for a dispute",
    TransactionKind.TOPUP: "Credit added",
}

# Rows of a page: a thousand take a few milliseconds and a megabyte.
PAGE = 1000

# The legs of one transaction on the organization's accounts, and its tax.
_LEGS = """
LATERAL (
  SELECT coalesce(-sum(p.amount_micro) FILTER (WHERE p.account_id = ANY(%(has)s)), 0)::bigint
           AS paid,
         coalesce(sum(p.amount_micro) FILTER (WHERE p.account_id = ANY(%(tax)s)), 0)::bigint
           AS tax
    FROM billing_posting p WHERE p.txn_id = {txn}
) AS legs
"""

_USE = f"""
SELECT u.txn_id, CASE m.kind WHEN 'disk' THEN 'disk_usage' ELSE 'usage' END AS kind,
       u.id AS charge_id, u.rental_ref AS meter_ref, u.seq, u.from_at, u.to_at,
       CASE m.kind WHEN 'gpu' THEN u.rental_ref END AS rental_ref,
       u.seconds, u.gpus, u.price_micro_h, m.accelerator, m.description AS text,
       u.amount_micro AS list, legs.paid - legs.tax AS cost, legs.tax, u.from_at AS placed
  FROM billing_rentalmeter m JOIN billing_usageline u ON u.rental_ref = m.rental_ref,
       {_LEGS.format(txn="u.txn_id")}
 WHERE m.org_ref = %(org)s AND u.from_at >= %(from)s AND u.from_at < %(to)s
"""  # noqa: S608 - texts of this module

_OTHER = f"""
SELECT t.id AS txn_id, t.kind, NULL::uuid AS charge_id, NULL::uuid AS meter_ref,
       NULL::int AS seq, t.at AS from_at, t.at AS to_at,
       CASE m.kind WHEN 'gpu' THEN m.rental_ref END AS rental_ref,
       NULL::int AS seconds, NULL::int AS gpus,
       NULL::bigint AS price_micro_h, m.accelerator, coalesce(m.description, '') AS text,
       NULL::bigint AS list,
       CASE WHEN t.kind = ANY(%(counted)s) THEN legs.paid - legs.tax ELSE 0 END AS cost,
       legs.tax, t.at AS placed
  FROM (SELECT DISTINCT p.txn_id FROM billing_posting p WHERE p.account_id = ANY(%(has)s)) AS own
  JOIN billing_transaction t ON t.id = own.txn_id AND t.kind = ANY(%(others)s)
   AND t.at >= %(from)s AND t.at < %(to)s
  LEFT JOIN billing_transaction l ON l.id = t.linked_id
  LEFT JOIN billing_usageline u
    ON u.id = CASE WHEN t.cause_type LIKE '%%usage' THEN t.cause_id
                   WHEN l.cause_type LIKE '%%usage' THEN l.cause_id END
  LEFT JOIN billing_rentalmeter m ON m.rental_ref = u.rental_ref
      OR (t.cause_type = 'rental' AND m.rental_ref = t.cause_id),
       {_LEGS.format(txn="t.id")}
"""  # noqa: S608 - texts of this module

_INVOICE = """
(SELECT i.number FROM billing_invoicespan s
   JOIN billing_invoiceline n ON n.id = s.line_id JOIN billing_invoice i ON i.id = n.invoice_id
  WHERE s.rental_ref = x.meter_ref AND int4range(s.first_seq, s.last_seq, '[]') @> x.seq)
"""

_KEYS = {
    CostKey.RENTAL: "x.rental_ref::text",
    CostKey.ACCELERATOR: "x.accelerator",
    CostKey.DAY: "to_char(x.placed AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}


def pages(*, org_ref: UUID, from_at: datetime, to_at: datetime) -> Iterator[list[CostRow]]:
    """Use by rental and number, then all else by age; each page is a query of its own."""
    given = _given(org_ref, from_at, to_at)
    meter, seq = UUID(int=0), 0
    while rows := _page(
        _USE, "(x.meter_ref, x.seq) > (%(a)s, %(b)s)", "x.meter_ref, x.seq", given, meter, seq
    ):
        yield rows
        meter, seq = rows[-1].meter_ref or meter, rows[-1].seq or seq
    last = UUID(int=0)
    while rows := _page(_OTHER, "x.txn_id > %(a)s", "x.txn_id", given, last):
        yield [row for row in rows if row.cost_micro or row.tax_micro]
        last = rows[-1].txn_id


def totals(*, org_ref: UUID, from_at: datetime, to_at: datetime, by: CostKey) -> list[CostTotal]:
    """Sums per key, keys in order."""
    query = f"""
    SELECT {_KEYS[by]} AS key,
           coalesce(sum(x.seconds::bigint * x.gpus) FILTER (WHERE x.kind = 'usage'), 0)::bigint,
           coalesce(sum(x.cost) FILTER (WHERE x.kind = ANY(%(used)s)), 0)::bigint,
           coalesce(sum(x.cost) FILTER (WHERE x.kind <> ALL(%(used)s)), 0)::bigint,
           coalesce(sum(x.tax), 0)::bigint
      FROM ({_USE} UNION ALL {_OTHER}) AS x
     GROUP BY key HAVING count(*) FILTER (WHERE x.cost <> 0 OR x.tax <> 0 OR x.seconds > 0) > 0
     ORDER BY key NULLS LAST
    """  # noqa: S608 - texts of this module
    used = [kind.value for kind in _USES]
    with connection.cursor() as cursor:
        cursor.execute(query, _given(org_ref, from_at, to_at) | {"used": used})
        return [CostTotal(*row) for row in cursor.fetchall()]


def _given(org_ref: UUID, from_at: datetime, to_at: datetime) -> dict[str, Any]:
    own = Account.objects.filter(owner_ref=org_ref, kind__in=_HAS)
    tax = Account.objects.filter(kind=AccountKind.TAX_PAYABLE)
    return {
        "org": org_ref,
        "from": from_at,
        "to": to_at,
        "has": list(own.values_list("id", flat=True)),
        "tax": list(tax.values_list("id", flat=True)),
        "others": _OTHERS,
        "counted": _COUNTED,
    }


def _page(
    source: str, after: str, order: str, given: dict[str, Any], *last: object
) -> list[CostRow]:
    query = f"""
    SELECT x.*, {_INVOICE} AS invoice FROM ({source}) AS x
     WHERE {after} ORDER BY {order} LIMIT {PAGE}
    """  # noqa: S608 - texts of this module
    with connection.cursor() as cursor:
        cursor.execute(query, given | dict(zip("ab", last, strict=False)))
        names = [column.name for column in cursor.description or ()]
        return [_row(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _row(found: dict[str, Any]) -> CostRow:
    kind = TransactionKind(found["kind"])
    title = _TEXTS.get(kind)
    about = found["text"]
    return CostRow(
        txn_id=found["txn_id"],
        kind=kind.value,
        category=CATEGORIES[kind],
        charge_id=found["charge_id"],
        meter_ref=found["meter_ref"],
        rental_ref=found["rental_ref"],
        seq=found["seq"],
        from_at=found["from_at"],
        to_at=found["to_at"],
        seconds=found["seconds"],
        gpus=found["gpus"],
        price_micro_h=found["price_micro_h"],
        accelerator=found["accelerator"],
        text=": ".join(part for part in (title, about) if part),
        list_micro=found["cost"] if found["list"] is None else found["list"],
        cost_micro=found["cost"],
        tax_micro=found["tax"],
        invoice=found["invoice"],
    )
