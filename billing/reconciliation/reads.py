"""What people look at: R8, when all was compared last, and a transaction down to its cause."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q

from billing.contracts.reconciliation import CoverageView, LegView, ReconciledView, TracedView
from billing.ledger.chart import CHART
from billing.models import AccountKind, Invoice, Posting, StripeCursor, Transaction
from billing.reconciliation.cash import SOURCES

BOOKS, STRIPE, USAGE = "reconciled", "reconciled_stripe", "reconciled_usage"
# Transactions shown of something that has thousands, such as a tenant's account.
SHOWN: Final = 20

_COVERAGE = """
SELECT coalesce(-sum(micro) FILTER (WHERE kind = 'stripe_cash'), 0)::bigint,
       coalesce(sum(greatest(micro, 0))
                FILTER (WHERE kind IN ('tenant', 'tenant_hold')), 0)::bigint,
       coalesce(sum(micro) FILTER (WHERE kind LIKE 'provider%'), 0)::bigint,
       coalesce(sum(micro) FILTER (WHERE kind = 'tax_payable'), 0)::bigint
  FROM (SELECT a.kind, coalesce(a.balance_micro, (
                 SELECT sum(p.amount_micro) FROM billing_posting p WHERE p.account_id = a.id
               ), 0) AS micro
          FROM billing_account a
         WHERE a.kind IN ('stripe_cash', 'tenant', 'tenant_hold', 'provider_pending',
                          'provider_due', 'provider_clearing', 'tax_payable')) s
"""


def coverage() -> CoverageView:
    """R8: our cash at Stripe against all that is owed to tenants, providers and tax offices."""
    with connection.cursor() as cursor:
        cursor.execute(_COVERAGE)
        return CoverageView(*cursor.fetchone())


def reconciled() -> ReconciledView:
    """Up to which moment each part was compared last."""
    marks = dict(
        StripeCursor.objects.filter(name__in=[BOOKS, STRIPE, USAGE]).values_list("name", "read_to")
    )
    return ReconciledView(marks.get(BOOKS), marks.get(USAGE), marks.get(STRIPE))


def mark(name: str, until: datetime) -> None:
    """A part was compared up to that moment."""
    StripeCursor.objects.update_or_create(name=name, defaults={"read_to": until})


def traced(about: Iterable[str]) -> list[TracedView]:
    """The newest transactions of what these names say (``txn:…``, ``cause:…``, ``account:…``,
    ``rental:…``, ``stripe:…``), each with its legs, its cause and the object at Stripe."""
    wanted = _parsed(about)
    causes = wanted.get("cause", []) + wanted.get("rental", [])
    match = Q(id__in=wanted.get("txn", [])) | Q(cause_id__in=causes)
    rows = list(Transaction.objects.filter(match).order_by("-id")[:SHOWN])
    if not rows:
        accounts = Posting.objects.filter(account_id__in=wanted.get("account", []))
        newest = accounts.order_by("-txn").values_list("txn", flat=True)[:SHOWN]
        rows = list(Transaction.objects.filter(id__in=list(newest)).order_by("-id"))
    return _views(rows)


def trace(txn_id: UUID) -> TracedView | None:
    """One transaction; None when there is none."""
    found = _views(Transaction.objects.filter(id=txn_id))
    return found[0] if found else None


def _parsed(about: Iterable[str]) -> dict[str, list[UUID]]:
    found: dict[str, list[UUID]] = {}
    for name in about:
        kind, _, value = name.partition(":")
        try:
            found.setdefault(kind, []).append(UUID(value))
        except ValueError:
            continue  # Stripe's names are no keys of ours
    return found


def _views(rows: Iterable[Transaction]) -> list[TracedView]:
    rows = list(rows)
    legs: dict[UUID, list[LegView]] = {}
    postings = Posting.objects.filter(txn__in=[row.id for row in rows]).select_related("account")
    for leg in postings.order_by("id"):
        account = leg.account
        number, name = CHART[AccountKind(account.kind)]
        view = LegView(account.kind, number, name, account.owner_ref, leg.amount_micro)
        legs.setdefault(leg.txn_id, []).append(view)
    names = _stripe_ids(rows)
    return [
        TracedView(
            id=row.id,
            kind=row.kind,
            at=row.at,
            cause_type=row.cause_type,
            cause_id=row.cause_id,
            linked=row.linked_id,
            legs=tuple(legs.get(row.id, ())),
            stripe_id=names.get(row.cause_id, ""),
        )
        for row in rows
    ]


def _stripe_ids(rows: Iterable[Transaction]) -> dict[UUID, str]:
    causes = [row.cause_id for row in rows]
    found: dict[UUID, str] = {}
    for table in [source.rows for source in SOURCES] + [Invoice]:
        known = table.objects.filter(id__in=causes, stripe_id__isnull=False)
        found |= dict(known.values_list("id", "stripe_id"))
    return found
