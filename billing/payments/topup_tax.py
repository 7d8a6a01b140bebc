"""Tax that is added when credit is bought. Only the net becomes credit; the tax is owed on."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from billing.contracts import PaymentState
from billing.models import CallKind, Payment, Refund, TopUp
from billing.payments.intents import intend
from kernel.money import to_minor

_UNDONE = (PaymentState.FAILED, PaymentState.CANCELED)


def calculated(topup_id: UUID, *, tax_minor: int, stripe_id: str) -> None:
    """The tax is known: the card is charged with it."""
    with transaction.atomic():
        topup = TopUp.objects.select_for_update().get(id=topup_id)
        if topup.tax_calculation is None:
            topup.tax_minor, topup.tax_calculation = tax_minor, stripe_id
            topup.save(update_fields=["tax_minor", "tax_calculation"])
        key = f"topup:{topup.id}"
        intend(CallKind.TOPUP_CHARGE, key=key, subject=topup.id, org_ref=topup.customer_id)


def refused(topup_id: UUID, failure: str, code: str) -> None:
    """No tax could be worked out: nothing is charged."""
    TopUp.objects.filter(id=topup_id, state=PaymentState.PENDING).update(
        state=PaymentState.FAILED, failure=failure[:500], failure_code=code[:100]
    )


def recorded(topup_id: UUID, stripe_id: str) -> None:
    """Stripe has the tax transaction."""
    TopUp.objects.filter(id=topup_id, tax_transaction__isnull=True).update(
        tax_transaction=stripe_id
    )


def part_of(topup: TopUp, received_minor: int) -> int:
    """The tax in what was received: all beyond the credit that was asked for."""
    return max(0, received_minor - to_minor(topup.amount_micro)) if topup.taxed else 0


def booked(topup: TopUp) -> None:
    """Money came: its calculation becomes a tax transaction. Stripe's own page sees to that."""
    if topup.tax_calculation is not None:
        key = f"topup:{topup.id}:tax"
        intend(CallKind.TAX_TRANSACTION, key=key, subject=topup.id, org_ref=topup.customer_id)


def refund_ordered(row: Refund) -> None:
    """A refund of what has a tax transaction of ours is told to Stripe Tax as well."""
    topup = row.payment.topup
    if row.tax_minor and topup is not None and topup.tax_calculation is not None:
        key = f"refund:{row.id}:tax"
        intend(CallKind.TAX_REVERSAL, key=key, subject=row.id, org_ref=row.payment.org_ref)


def net_left(payment: Payment) -> int:
    """Cents of credit that the payment bought and no refund has given back."""
    gross = payment.amount_minor - payment.refunded_minor
    return gross - (payment.tax_minor - _tax_refunded(payment))


def tax_with(payment: Payment, net_minor: int) -> int:
    """The tax that goes back with ``net_minor`` more of a payment's credit: cumulative, so that all
    of it together is exactly what was paid."""
    net = payment.amount_minor - payment.tax_minor
    if not payment.tax_minor or net <= 0:
        return 0
    gone, taken = net - net_left(payment), _tax_refunded(payment)
    due = payment.tax_minor * (gone + net_minor) // net
    return min(max(due - taken, 0), payment.tax_minor - taken)


def tax_within(payment: Payment, gross_minor: int) -> int:
    """The tax in ``gross_minor`` more that somebody gave back at Stripe: cumulative as well."""
    taken = _tax_refunded(payment)
    due = payment.tax_minor * (payment.refunded_minor + gross_minor) // payment.amount_minor
    return min(max(due - taken, 0), payment.tax_minor - taken)


def _tax_refunded(payment: Payment) -> int:
    if not payment.tax_minor:
        return 0
    rows = payment.refunds.exclude(state__in=_UNDONE)
    return rows.aggregate(total=Sum("tax_minor"))["total"] or 0
