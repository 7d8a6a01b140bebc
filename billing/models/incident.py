"""Credit for an incident that staff named: one row per rental and incident."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.meter import RentalMeter
from billing.models.posting import Transaction
from kernel.clock import AppNow
from kernel.ids import new_id


class IncidentCredit(models.Model):
    """What one rental was given for one incident. spans: the stretches that it is for, as pairs of
    times, so that no second is given back a second time; ``seconds`` of them were paid."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    incident_ref = models.UUIDField()
    meter = models.ForeignKey(
        RentalMeter, on_delete=models.PROTECT, related_name="incidents", db_column="rental_ref"
    )
    title = models.CharField(max_length=120)
    from_at = models.DateTimeField()
    to_at = models.DateTimeField()
    spans = models.JSONField()
    seconds = models.IntegerField()
    percent = models.PositiveIntegerField()
    amount_micro = models.BigIntegerField()
    provider_micro = models.BigIntegerField()
    txn = models.OneToOneField(Transaction, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["incident_ref", "meter"], name="billing_incident_once"),
            models.CheckConstraint(
                condition=Q(
                    seconds__gt=0,
                    amount_micro__gt=0,
                    provider_micro__gte=0,
                    provider_micro__lte=F("amount_micro"),
                ),
                name="billing_incident_amounts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} of incident {self.incident_ref}"
