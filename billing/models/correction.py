"""What staff order: credit notes on invoices, promotional credit, adjustments of a balance."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.contracts import PaymentState
from billing.models.account import AccountKind
from billing.models.invoice import Invoice
from billing.models.ordered import Ordered
from billing.models.payment import STATES
from billing.models.posting import Transaction


class CreditNote(Ordered):
    """paid: the invoice was paid when it was ordered, so the money becomes credit; else it lowers
    what is owed. Booked once Stripe has it, with the same total."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    paid = models.BooleanField()
    state = models.CharField(max_length=10, choices=STATES, default=PaymentState.PENDING)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    number = models.CharField(max_length=100, null=True)
    failure = models.CharField(max_length=500, default="", blank=True)
    txn = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta(Ordered.Meta):
        constraints = [
            *Ordered.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount_micro__gte=10_000), name="billing_creditnote_amount"
            ),
        ]

    def __str__(self) -> str:
        return self.number or str(self.id)


class PromoGrant(Ordered):
    """Credit with a date. takes: how often a part of it was taken back since; closed_at: nothing of
    it is left to take."""

    expires_at = models.DateTimeField()
    takes = models.PositiveIntegerField(default=0)
    closed_at = models.DateTimeField(null=True)
    txn = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta(Ordered.Meta):
        indexes = [
            models.Index(
                fields=["expires_at"],
                condition=Q(closed_at__isnull=True),
                name="billing_promo_open",
            )
        ]
        constraints = [
            *Ordered.Meta.constraints,
            models.CheckConstraint(
                condition=Q(amount_micro__gte=1), name="billing_promogrant_amount"
            ),
        ]

    def __str__(self) -> str:
        return f"promotion {self.id}"


AGAINST = (AccountKind.PLATFORM_COST, AccountKind.REVENUE)


class Adjustment(Ordered):
    """amount_micro: what the tenant gets, or pays if negative; ``against``: the other side."""

    against = models.CharField(
        max_length=20, choices=[(kind.value, kind.value) for kind in AGAINST]
    )
    linked = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")
    txn = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta(Ordered.Meta):
        constraints = [
            *Ordered.Meta.constraints,
            models.CheckConstraint(condition=~Q(amount_micro=0), name="billing_adjustment_amount"),
            models.CheckConstraint(
                condition=Q(against__in=[kind.value for kind in AGAINST]),
                name="billing_adjustment_against",
            ),
        ]

    def __str__(self) -> str:
        return f"adjustment {self.id}"
