"""Shares become due when the use they are for is old enough.

What matures is a difference of two sums, taken in one statement: all that is on provider_pending,
less what is still too young or on review. Postings become visible out of the order of their
numbers and times, so nothing here is a cursor over them: a line that commits late is in neither
sum today and, being old, in the first one tomorrow. After each run provider_pending holds exactly
what was blocked in it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction

from billing.ledger.accounts import open_accounts
from billing.ledger.post import Entry, post
from billing.models import Account, AccountKind, CauseType, Maturity, TransactionKind
from kernel.clock import now
from kernel.ids import new_id
from kernel.money import CURRENCY
from kernel.turns import each

log = structlog.get_logger(__name__)

# A payment that nobody charged back for this long is settled; only then may money that a stolen
# card brought have left for a provider.
SETTLED_AFTER = timedelta(days=30)

# Legs on provider_pending besides use: aged by the use that they are linked to, else by themselves.
_OTHERS = (
    TransactionKind.OUTAGE_CREDIT,
    TransactionKind.INCIDENT_CREDIT,
    TransactionKind.PROVIDER_GAP,
    TransactionKind.ADJUSTMENT,
)

_SUMS = """
WITH meter AS MATERIALIZED (
  SELECT m.rental_ref, m.charged_until, m.provider_charged_micro,
         c.org_ref IS NOT NULL AS cleared
    FROM billing_rentalmeter m LEFT JOIN billing_clearedrenter c USING (org_ref)
   WHERE m.provider_ref = %(provider)s
)
SELECT (SELECT coalesce(sum(amount_micro), 0)::bigint FROM billing_posting
         WHERE account_id = %(pending)s),
       (SELECT coalesce(sum(provider_charged_micro), 0)::bigint FROM meter WHERE NOT cleared)
     + (SELECT coalesce(sum(u.provider_micro), 0)::bigint
          FROM meter m JOIN billing_usageline u USING (rental_ref)
         WHERE m.cleared AND m.charged_until > %(up_to)s AND u.to_at > %(up_to)s)
     + (SELECT coalesce(sum(p.amount_micro), 0)::bigint
          FROM billing_transaction t
          JOIN billing_posting p ON p.txn_id = t.id AND p.account_id = %(pending)s
          LEFT JOIN billing_usageline u ON u.txn_id = t.linked_id
          LEFT JOIN meter m ON m.rental_ref = u.rental_ref
         WHERE t.kind = ANY(%(others)s)
           AND CASE WHEN u.id IS NULL THEN p.amount_micro > 0 AND t.at > %(up_to)s
                    ELSE u.to_at > %(up_to)s OR NOT coalesce(m.cleared, false) END)
"""

_CLEAR = """
INSERT INTO billing_clearedrenter (org_ref, actor, note)
SELECT DISTINCT m.org_ref, 'platform', 'a payment settled, or a credit limit'
  FROM billing_rentalmeter m
 WHERE m.provider_ref = %(provider)s
   AND NOT EXISTS (SELECT FROM billing_clearedrenter c WHERE c.org_ref = m.org_ref)
   AND (EXISTS (SELECT FROM billing_payment p WHERE p.org_ref = m.org_ref
                   AND p.state = 'succeeded' AND p.created_at <= %(settled)s)
        OR EXISTS (SELECT FROM billing_customer k WHERE k.org_ref = m.org_ref
                      AND k.postpaid_since IS NOT NULL))
ON CONFLICT DO NOTHING
"""


class Purse(NamedTuple):
    """A provider's two accounts, locked."""

    pending: UUID
    due: UUID


def mature_all() -> int:
    """Mature every provider's shares; how many moves were made. Each in its own transaction."""
    providers = Account.objects.filter(kind=AccountKind.PROVIDER_PENDING, currency=CURRENCY)
    refs = providers.order_by("id").values_list("owner_ref", flat=True)
    known = [ref for ref in refs if ref is not None]
    moves = each("maturity", known, lambda ref: mature(provider_ref=ref))
    return sum(move is not None for move in moves)


@transaction.atomic
def mature(*, provider_ref: UUID) -> Maturity | None:
    """Move what has matured since the last time, or take back what was credited since; None when
    nothing moves."""
    purse = lock_provider(provider_ref)
    present = now()
    up_to = present - timedelta(days=settings.GPUYARD_MATURITY_DAYS)
    last = Maturity.objects.filter(provider_ref=provider_ref).order_by("-up_to").first()
    if last is not None:
        # A longer time to mature, or a clock set back, takes nothing back that was due already.
        up_to = max(up_to, last.up_to)
    balance, blocked = _sums(provider_ref, purse, up_to, present)
    if balance == blocked:
        return None
    row = Maturity(
        id=new_id(),
        provider_ref=provider_ref,
        up_to=up_to,
        balance_micro=balance,
        blocked_micro=blocked,
        amount_micro=balance - blocked,
    )
    row.txn_id = _post(row, purse)
    row.save(force_insert=True)
    return row


def lock_provider(provider_ref: UUID) -> Purse:
    """Lock what decides over a provider's money: maturing and paying out wait for each other,
    ticks for neither."""
    keys = (
        (AccountKind.PROVIDER_PENDING, provider_ref),
        (AccountKind.PROVIDER_DUE, provider_ref),
    )
    found = open_accounts(keys)
    purse = Purse(found[keys[0]], found[keys[1]])
    lock_due([purse.due])
    return purse


def lock_due(account_ids: list[UUID]) -> None:
    """Lock provider_due accounts in id order."""
    rows = Account.objects.select_for_update(no_key=True).filter(id__in=account_ids)
    list(rows.order_by("id").values_list("id"))


def _sums(provider_ref: UUID, purse: Purse, up_to: datetime, present: datetime) -> tuple[int, int]:
    """Balance of provider_pending and the part of it that may not move yet."""
    with connection.cursor() as cursor:
        cursor.execute(_CLEAR, {"provider": provider_ref, "settled": present - SETTLED_AFTER})
        cursor.execute(
            _SUMS,
            {
                "provider": provider_ref,
                "pending": purse.pending,
                "up_to": up_to,
                "others": [kind.value for kind in _OTHERS],
            },
        )
        balance, blocked = cursor.fetchone()
    return balance, blocked


def _post(row: Maturity, purse: Purse) -> UUID:
    kind = TransactionKind.MATURITY
    if row.amount_micro < 0:
        kind = TransactionKind.CLAWBACK
        log.info("clawback", provider=str(row.provider_ref), micro=row.amount_micro)
    legs = ((purse.pending, -row.amount_micro), (purse.due, row.amount_micro))
    entry = Entry(kind, CauseType.MATURITY, row.id, legs)
    post([entry])
    return entry.id
