"""Promotional credit: given with a date, spent before anything bought, taken back at that date.

It lies in the tenant's balance like all it may spend, so no floor and no hold knows of it. What of
each grant is left follows from the tenant's moves in their order: use is paid from the grant that
expires first, then from what else was given, then from what was bought (purchased.py). Money that
is held when its date comes is taken once it is free; what was spent by then is the tenant's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction

from billing.contracts.refunds import PromotionView
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import AccountKind, CauseType, PromoGrant, TransactionKind
from billing.models.ordered import newest
from billing.payments import second
from billing.payments.purchased import BOUGHT, INNER
from billing.payments.tenants import find_customer
from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.money import MAX_MICRO
from kernel.turns import each

log = structlog.get_logger(__name__)
LONGEST = timedelta(days=3650)

# A tenant's moves cut at each grant and each expiry: what was spent after it, until the next. A
# tenant's postings are numbered under its account's row lock, so their numbers are their order.
_SEGMENTS = """
WITH move AS (
  SELECT p.txn_id, max(p.id) AS place, t.kind, t.cause_id, sum(p.amount_micro) AS amount,
         t.cause_type = 'promo' AS promo
    FROM billing_posting p JOIN billing_transaction t ON t.id = p.txn_id
   WHERE p.account_id = ANY(%(accounts)s) AND t.kind <> ALL(%(others)s)
   GROUP BY p.txn_id, t.kind, t.cause_id, t.cause_type
), cut AS (
  SELECT *, count(*) FILTER (WHERE promo) OVER (ORDER BY place) AS segment FROM move
)
SELECT (array_agg(cause_id) FILTER (WHERE promo))[1],
       coalesce(sum(amount) FILTER (WHERE promo), 0)::bigint,
       coalesce(-sum(amount) FILTER (WHERE NOT promo AND amount < 0), 0)::bigint
  FROM cut WHERE segment > 0 GROUP BY segment ORDER BY segment
"""


def order_promotion(
    *, org_ref: UUID, amount_micro: int, expires_at: datetime, reason: str, ordered_by: str
) -> PromotionView:
    """Give credit until a date; at once unless a second person must approve it. InvalidRequest."""
    text = second.check_reason(reason)
    find_customer(org_ref)
    if not 0 < amount_micro <= MAX_MICRO:
        raise InvalidRequest({"amount": ["more than zero, and not beyond what can be stored"]})
    _check_date(expires_at)
    purse = lock_purse(org_ref)
    row = PromoGrant.objects.create(
        org_ref=org_ref,
        amount_micro=amount_micro,
        expires_at=expires_at,
        reason=text,
        ordered_by=ordered_by[:100],
        needs_second=second.needs_second(
            PromoGrant, org_ref=org_ref, ordered_by=ordered_by[:100], amount_micro=amount_micro
        ),
    )
    if not row.needs_second:
        _give(row, purse)
    row.refresh_from_db(fields=["created_at"])
    return _view(row, rests(purse))


def approve_promotion(*, order_id: UUID, approved_by: str, alone: bool) -> PromotionView:
    """Approve what was ordered, and give it. Refused when its date has come."""
    row = second.lock_waiting(PromoGrant, order_id, what="promotion")
    _check_date(row.expires_at)
    second.approve(row, approved_by=approved_by, alone=alone)
    purse = lock_purse(row.org_ref)
    _give(row, purse)
    return _view(row, rests(purse))


def decline_promotion(*, order_id: UUID, declined_by: str, reason: str) -> PromotionView:
    """End an order that waits."""
    row = second.decline(
        PromoGrant, order_id, what="promotion", declined_by=declined_by, reason=reason
    )
    return _view(row, {})


def promotions(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[PromotionView]:
    """Newest first, with what is left of each; of one organization or of all."""
    rows = list(newest(PromoGrant.objects.all(), org_ref=org_ref, after=after, limit=limit))
    left: dict[UUID, int] = {}
    with transaction.atomic():
        for owner in sorted({row.org_ref for row in rows}):
            left |= rests(lock_purse(owner))
    return [_view(row, left) for row in rows]


def expire() -> int:
    """Take back what is left of grants whose date has come, as far as it is not held; how many."""
    due = PromoGrant.objects.filter(
        txn__isnull=False, closed_at__isnull=True, expires_at__lte=AppNow()
    )
    keys = list(due.order_by("expires_at").values_list("id", flat=True))
    return sum(each("promotion", keys, _expire_one))


def rests(purse: Purse) -> dict[UUID, int]:
    """By grant, what of it is left in balance and holds. The purse is locked."""
    grants = {row.id: row for row in PromoGrant.objects.filter(org_ref=purse.org_ref)}
    order = sorted(grants, key=lambda key: (grants[key].expires_at, key))
    left = dict.fromkeys(order, 0)
    others = [kind.value for kind in (*INNER, *BOUGHT)]
    given: dict[str, list[Any]] = {"accounts": [purse.tenant, purse.hold], "others": others}
    with connection.cursor() as cursor:
        cursor.execute(_SEGMENTS, given)
        rows = cursor.fetchall()
    for grant, change, spent in rows:
        left[grant] += change
        open_spent = spent
        for key in order:
            used = min(left[key], open_spent)
            left[key] -= used
            open_spent -= used
    return left


def _expire_one(grant_id: UUID) -> bool:
    with transaction.atomic():
        row = PromoGrant.objects.select_for_update().get(id=grant_id)
        if row.closed_at is not None:
            return False
        purse = lock_purse(row.org_ref)
        rest = rests(purse)[row.id]
        take = min(rest, max(0, purse.available_micro))
        if take:
            row.takes += 1
            _post(row, TransactionKind.PROMO_EXPIRED, purse, -take, round=row.takes)
        if take == rest:
            row.closed_at = now()
        row.save(update_fields=["takes", "closed_at"])
    return bool(take)


def _give(row: PromoGrant, purse: Purse) -> None:
    row.txn_id = _post(row, TransactionKind.PROMO_GRANT, purse, row.amount_micro)
    row.save(update_fields=["txn"])


def _post(
    row: PromoGrant, kind: TransactionKind, purse: Purse, amount: int, *, round: int = 1
) -> UUID:
    legs = ((purse.tenant, amount), (account(AccountKind.PROMO_EXPENSE), -amount))
    linked = row.txn_id if kind == TransactionKind.PROMO_EXPIRED else None
    entry = Entry(kind, CauseType.PROMO, row.id, legs, linked=linked, round=round)
    post([entry])
    return entry.id


def _check_date(expires_at: datetime) -> None:
    if not now() < expires_at <= now() + LONGEST:
        raise InvalidRequest({"expires_at": ["in the future, within ten years"]})


def _view(row: PromoGrant, left: dict[UUID, int]) -> PromotionView:
    return PromotionView(
        **second.fields(row),
        state=second.state(row, "expired" if row.closed_at else "active"),
        left_micro=left.get(row.id, 0),
        expires_at=row.expires_at,
    )
