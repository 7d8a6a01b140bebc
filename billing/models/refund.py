"""Money that goes back the way it came: an order, and one refund per payment that it draws on.

A trigger of migration 0014 adds a payment's refunds up in the payment's own row, where a CHECK
refuses more than was paid: also in a race, and whoever writes.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.contracts import PaymentState
from billing.models.ordered import Ordered
from billing.models.payment import STATES, Payment
from kernel.clock import AppNow
from kernel.ids import new_id


class RefundOrder(Ordered):
    """by_renter: the organization asked for it itself, within its limit."""

    by_renter = models.BooleanField()

    class Meta(Ordered.Meta):
        constraints = [
            *Ordered.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount_micro__gte=10_000), name="billing_refundorder_amount"
            ),
        ]

    def __str__(self) -> str:
        return f"refund order {self.id}"


class Refund(models.Model):
    """A part of one payment. Without an order it was made by hand at Stripe.

    at_stripe: the money left our balance there. Until then it is in transit: the ledger has it out
    from the order on.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    order = models.ForeignKey(
        RefundOrder, null=True, on_delete=models.PROTECT, related_name="refunds"
    )
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    amount_minor = models.BigIntegerField()  # tax included
    tax_minor = models.BigIntegerField(default=0, db_default=0)
    state = models.CharField(max_length=10, choices=STATES, default=PaymentState.PENDING)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    at_stripe = models.BooleanField(default=False)
    failure = models.CharField(max_length=500, default="", blank=True)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [
            # What is in transit: a handful among all refunds there ever were.
            models.Index(
                fields=["id"],
                condition=Q(state="pending", at_stripe=False),
                name="billing_refund_transit",
            )
        ]
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gte=1), name="billing_refund_amount"),
            models.CheckConstraint(
                condition=Q(order__isnull=False) | Q(stripe_id__isnull=False),
                name="billing_refund_origin",
            ),
        ]

    def __str__(self) -> str:
        return f"refund {self.id}"
