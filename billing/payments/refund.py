"""Order refunds: unspent purchased credit back to the payments it came from, newest first. Tax that
was added when it was bought goes back with it: an order is of credit, its parts are of money.

The money leaves the ledger when it is ordered; until Stripe has it, it is in transit. A part that
Stripe refuses comes back (refund_converge).
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from billing.contracts import PaymentState
from billing.contracts.refunds import RefundPart, RefundState, RefundView
from billing.ledger.accounts import Purse, account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    AccountKind,
    CallKind,
    CauseType,
    Payment,
    Refund,
    RefundOrder,
    TransactionKind,
)
from billing.models.ordered import newest
from billing.payments import second, topup_tax
from billing.payments.intents import intend
from billing.payments.purchased import payments_left, refundable
from billing.payments.tenants import find_customer
from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.money import CURRENCY, MICRO_PER_MINOR, format_micro, from_minor, to_minor

# A renter's own refunds count together for this long.
SELF_PERIOD = timedelta(days=30)


def order_refund(
    *, org_ref: UUID, amount_micro: int | None, reason: str, ordered_by: str, by_renter: bool
) -> RefundView:
    """Order a refund; ``None``: all that can go back. Moves at once unless a second person must
    approve it. InvalidRequest: more than is there, not whole cents, above the renter's own limit.
    """
    text = second.check_reason(reason)
    find_customer(org_ref)
    purse = lock_purse(org_ref)
    able = refundable(purse)
    amount = able if amount_micro is None else amount_micro
    _check(amount, able)
    if by_renter:
        _check_own_limit(org_ref, amount)
    order = RefundOrder.objects.create(
        org_ref=org_ref,
        amount_micro=amount,
        reason=text,
        ordered_by=ordered_by[:100],
        by_renter=by_renter,
        needs_second=not by_renter
        and second.needs_second(
            RefundOrder, org_ref=org_ref, ordered_by=ordered_by[:100], amount_micro=amount
        ),
    )
    if not order.needs_second:
        _send(order, purse)
    order.refresh_from_db(fields=["created_at"])
    return _view(order)


def approve_refund(*, order_id: UUID, approved_by: str, alone: bool) -> RefundView:
    """Approve what was ordered, and send it. Refused when the credit is gone since."""
    order = second.lock_waiting(RefundOrder, order_id, what="refund")
    second.approve(order, approved_by=approved_by, alone=alone)
    purse = lock_purse(order.org_ref)
    _check(order.amount_micro, refundable(purse))
    _send(order, purse)
    return _view(order)


def decline_refund(*, order_id: UUID, declined_by: str, reason: str) -> RefundView:
    """End an order that waits."""
    return _view(
        second.decline(RefundOrder, order_id, what="refund", declined_by=declined_by, reason=reason)
    )


def refunds(
    *, org_ref: UUID | None = None, after: UUID | None = None, limit: int = 200
) -> list[RefundView]:
    """Orders, newest first, with their parts; of one organization or of all."""
    rows = RefundOrder.objects.prefetch_related("refunds__payment")
    return [_view(row) for row in newest(rows, org_ref=org_ref, after=after, limit=limit)]


def in_transit() -> int:
    """What the ledger has refunded and Stripe has not taken from our balance yet, micro-units."""
    total = Refund.objects.filter(state=PaymentState.PENDING, at_stripe=False).aggregate(
        total=Sum("amount_minor")
    )["total"]
    return from_minor(total or 0)


def _check(amount: int, able: int) -> None:
    if amount <= 0 and able <= 0:
        why = "nothing can be refunded: only purchased credit that is unspent and not held"
    elif amount <= 0 or amount % MICRO_PER_MINOR:
        why = "whole cents, more than zero"
    elif amount > able:
        most = format_micro(able, places=2)
        why = f"at most {most} {CURRENCY} of purchased credit is unspent and not held"
    else:
        return
    raise InvalidRequest({"amount": [why]})


def _check_own_limit(org_ref: UUID, amount: int) -> None:
    before = RefundOrder.objects.filter(
        org_ref=org_ref, by_renter=True, created_at__gt=now() - SELF_PERIOD
    ).aggregate(total=Sum("amount_micro"))["total"]
    limit: int = settings.GPUYARD_SELF_REFUND_LIMIT
    rest = limit - (before or 0)
    if amount > rest:
        most = format_micro(max(rest, 0), places=2)
        raise InvalidRequest(
            {"amount": [f"up to {most} {CURRENCY} by yourself for now; for more write to support"]}
        )


def _send(order: RefundOrder, purse: Purse) -> None:
    """One refund per payment with its legs and its intent; checked before, under the lock."""
    rows = _split(order, payments_left(purse))
    Refund.objects.bulk_create(rows)
    cash, tax = account(AccountKind.STRIPE_CASH), account(AccountKind.TAX_PAYABLE)
    post(
        [
            Entry(
                TransactionKind.REFUND,
                CauseType.REFUND,
                row.id,
                (
                    (purse.tenant, from_minor(row.tax_minor - row.amount_minor)),
                    (tax, -from_minor(row.tax_minor)),
                    (cash, from_minor(row.amount_minor)),
                ),
                linked=row.payment.txn_id,
            )
            for row in rows
        ]
    )
    for row in rows:
        intend(CallKind.REFUND, key=f"refund:{row.id}", subject=row.id, org_ref=order.org_ref)
        topup_tax.refund_ordered(row)


def _split(order: RefundOrder, payments: list[Payment]) -> list[Refund]:
    left, rows = to_minor(order.amount_micro), []
    for payment in payments:
        part = min(left, topup_tax.net_left(payment))
        if part > 0:
            tax = topup_tax.tax_with(payment, part)
            rows.append(
                Refund(order=order, payment=payment, amount_minor=part + tax, tax_minor=tax)
            )
            left -= part
    assert not left, "refundable() counts the payments' rest"
    return rows


def _view(order: RefundOrder) -> RefundView:
    rows = sorted(order.refunds.all(), key=lambda row: row.payment_id, reverse=True)
    return RefundView(
        **second.fields(order),
        state=_state(order, rows),
        parts=tuple(
            RefundPart(
                payment=row.payment.stripe_id,
                amount_micro=from_minor(row.amount_minor),
                state=row.state,
                failure=row.failure,
            )
            for row in rows
        ),
    )


def _state(order: RefundOrder, rows: list[Refund]) -> RefundState:
    if order.waits or order.declined_by:
        return RefundState(second.state(order, ""))
    states = {row.state for row in rows}
    if PaymentState.PENDING in states:
        return RefundState.PENDING
    if PaymentState.SUCCEEDED not in states:
        return RefundState.FAILED
    return RefundState.SUCCEEDED if states == {PaymentState.SUCCEEDED} else RefundState.PARTIAL
