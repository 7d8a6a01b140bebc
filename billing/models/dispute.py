"""A payment that its payer's bank contests, as Stripe tells it, and the evidence we send."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.contracts.disputes import CLOSED, DisputeState
from billing.models.payment import Payment
from kernel.clock import AppNow
from kernel.ids import new_id

STATES = [(state.value, state.value) for state in DisputeState]


class Dispute(models.Model):
    """evidence: what was or will be submitted, fixed from ``evidence_at`` on; Stripe takes it once.

    evidence_try: counts submissions that Stripe refused, each a new intent.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField(db_index=True)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    stripe_id = models.CharField(max_length=255, unique=True)
    state = models.CharField(max_length=30, choices=STATES)
    reason = models.CharField(max_length=100)
    amount_minor = models.BigIntegerField()
    due_by = models.DateTimeField(null=True)
    evidence = models.JSONField(null=True)
    evidence_by = models.CharField(max_length=100, default="", blank=True)
    evidence_at = models.DateTimeField(null=True)
    evidence_try = models.PositiveIntegerField(default=1)
    submitted_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=500, default="", blank=True)
    created_at = models.DateTimeField(db_default=AppNow())
    closed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # Few are open at a time; loops look at these every half a minute.
            models.Index(
                fields=["org_ref"],
                condition=Q(closed_at__isnull=True),
                name="billing_dispute_open",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in DisputeState]),
                name="billing_dispute_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(CLOSED), closed_at__isnull=False)
                | (~Q(state__in=sorted(CLOSED)) & Q(closed_at__isnull=True)),
                name="billing_dispute_closed",
            ),
        ]

    def __str__(self) -> str:
        return self.stripe_id
