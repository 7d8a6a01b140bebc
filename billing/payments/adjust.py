"""Adjustments: staff move money between a tenant and the platform's own accounts, with a reason.

Only for what no other kind says. Never below the tenant's floor; a new transaction, never an edit.
"""

from __future__ import annotations

from uuid import UUID

from billing.contracts.refunds import AdjustmentView
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    AGAINST,
    AccountKind,
    Adjustment,
    CauseType,
    Posting,
    TransactionKind,
)
from billing.models.ordered import newest
from billing.payments import second
from billing.payments.tenants import find_customer
from kernel.errors import InvalidRequest
from kernel.money import CURRENCY, MAX_MICRO, format_micro


def order_adjustment(
    *,
    org_ref: UUID,
    amount_micro: int,
    against: str,
    reason: str,
    linked: UUID | None,
    ordered_by: str,
) -> AdjustmentView:
    """Give (or, negative, take) an amount; moves at once unless a second person must approve it.

    InvalidRequest: zero, past the floor, another account than platform_cost or revenue, a linked
    transaction of somebody else.
    """
    text = second.check_reason(reason)
    find_customer(org_ref)
    if against not in AGAINST:
        raise InvalidRequest({"against": ["platform_cost or revenue"]})
    if not amount_micro or abs(amount_micro) > MAX_MICRO:
        raise InvalidRequest({"amount": ["not zero, and not beyond what can be stored"]})
    if linked is not None and not _concerns(linked, org_ref):
        raise InvalidRequest({"transaction": ["no such transaction of this organization"]})
    purse = lock_purse(org_ref)
    _check_floor(amount_micro, purse)
    row = Adjustment.objects.create(
        org_ref=org_ref,
        amount_micro=amount_micro,
        against=against,
        reason=text,
        linked_id=linked,
        ordered_by=ordered_by[:100],
        needs_second=second.needs_second(
            Adjustment, org_ref=org_ref, ordered_by=ordered_by[:100], amount_micro=amount_micro
        ),
    )
    if not row.needs_second:
        _post(row, purse)
    row.refresh_from_db(fields=["created_at"])
    return _view(row)


def approve_adjustment(*, order_id: UUID, approved_by: str, alone: bool) -> AdjustmentView:
    """Approve what was ordered, and post it."""
    row = second.lock_waiting(Adjustment, order_id, what="adjustment")
    second.approve(row, approved_by=approved_by, alone=alone)
    purse = lock_purse(row.org_ref)
    _check_floor(row.amount_micro, purse)
    _post(row, purse)
    return _view(row)


def decline_adjustment(*, order_id: UUID, declined_by: str, reason: str) -> AdjustmentView:
    """End an order that waits."""
    return _view(
        second.decline(
            Adjustment, order_id, what="adjustment", declined_by=declined_by, reason=reason
        )
    )


def adjustments(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[AdjustmentView]:
    """Newest first; of one organization or of all."""
    rows = Adjustment.objects.all()
    return [_view(row) for row in newest(rows, org_ref=org_ref, after=after, limit=limit)]


def _concerns(txn_id: UUID, org_ref: UUID) -> bool:
    return Posting.objects.filter(txn=txn_id, account__owner_ref=org_ref).exists()


def _check_floor(amount: int, purse: Purse) -> None:
    if amount + purse.available_micro < 0:
        most = format_micro(max(0, purse.available_micro))
        raise InvalidRequest({"amount": [f"at most {most} {CURRENCY} can be taken"]})


def _post(row: Adjustment, purse: Purse) -> None:
    other = account(AccountKind(row.against))
    legs = ((purse.tenant, row.amount_micro), (other, -row.amount_micro))
    entry = Entry(
        TransactionKind.ADJUSTMENT, CauseType.ADJUSTMENT, row.id, legs, linked=row.linked_id
    )
    post([entry])
    row.txn_id = entry.id
    row.save(update_fields=["txn"])


def _view(row: Adjustment) -> AdjustmentView:
    return AdjustmentView(
        **second.fields(row),
        state=second.state(row, "done"),
        against=row.against,
        linked=row.linked_id,
    )
