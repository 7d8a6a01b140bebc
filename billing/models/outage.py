"""Credit for interruptions: one case per interruption, one row per posting of it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.meter import RentalMeter
from billing.models.posting import Transaction
from kernel.clock import AppNow
from kernel.ids import new_id


class OutageCase(models.Model):
    """How much of one interruption is credited. The amounts are cumulative, like a charge.

    provider_limit_micro: the most that the owner bears of it; 0 when it was not the host's fault.
    """

    case_ref = models.UUIDField(primary_key=True)  # the ready interval that the fault closed
    meter = models.ForeignKey(
        RentalMeter, on_delete=models.PROTECT, related_name="outages", db_column="rental_ref"
    )
    from_at = models.DateTimeField()
    seconds = models.IntegerField(default=0)
    amount_micro = models.BigIntegerField(default=0)
    provider_micro = models.BigIntegerField(default=0)
    provider_limit_micro = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    seconds__gte=0,
                    amount_micro__gte=F("provider_micro"),
                    provider_micro__gte=0,
                    provider_micro__lte=F("provider_limit_micro"),
                ),
                name="billing_outage_amounts",
            )
        ]

    def __str__(self) -> str:
        return f"outage {self.case_ref}"


class OutageCredit(models.Model):
    """One posting: what brought the case from its credit before to ``seconds``."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    case = models.ForeignKey(OutageCase, on_delete=models.PROTECT, related_name="credits")
    seconds = models.IntegerField()
    amount_micro = models.BigIntegerField()
    provider_micro = models.BigIntegerField()
    txn = models.OneToOneField(Transaction, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["case", "seconds"], name="billing_outagecredit_once"),
            models.CheckConstraint(
                condition=Q(amount_micro__gt=0, provider_micro__gte=0),
                name="billing_outagecredit_amounts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} of {self.case_id}"
