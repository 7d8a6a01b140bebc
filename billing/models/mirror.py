"""Settled usage mirrored to Stripe's billing meters: a copy there, never the source of a charge."""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeBoundary, RangeOperators
from django.db import models
from django.db.models import F, Q

from billing.models.invoice import Int4Range
from billing.models.meter import RentalMeter
from kernel.clock import AppNow
from kernel.ids import new_id


class StripeMeter(models.Model):
    """Stripe's meter for one card type."""

    accelerator = models.CharField(primary_key=True, max_length=100)
    event_name = models.CharField(max_length=100, unique=True)
    stripe_id = models.CharField(max_length=255, null=True)

    def __str__(self) -> str:
        return self.event_name


class MeterBatch(models.Model):
    """One meter event: GPU-seconds of one customer on one card type. ``at`` is its time there."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField()
    accelerator = models.CharField(max_length=100)
    seq = models.IntegerField()
    gpu_seconds = models.BigIntegerField()
    identifier = models.CharField(max_length=100, unique=True)
    at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=AppNow())
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["org_ref", "accelerator", "seq"], name="billing_meterbatch_key"
            ),
            models.CheckConstraint(
                condition=Q(gpu_seconds__gte=1), name="billing_meterbatch_seconds"
            ),
        ]

    def __str__(self) -> str:
        return self.identifier


class MeterSpan(models.Model):
    """The usage lines first_seq..last_seq of one rental that a batch covers; never twice."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    batch = models.ForeignKey(MeterBatch, on_delete=models.PROTECT, related_name="spans")
    meter = models.ForeignKey(
        RentalMeter, on_delete=models.PROTECT, related_name="+", db_column="rental_ref"
    )
    first_seq = models.IntegerField()
    last_seq = models.IntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(last_seq__gte=F("first_seq")), name="billing_meterspan_order"
            ),
            ExclusionConstraint(
                name="billing_meterspan_once",
                expressions=[
                    ("meter", RangeOperators.EQUAL),
                    (
                        Int4Range("first_seq", "last_seq", RangeBoundary(inclusive_upper=True)),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.first_seq}-{self.last_seq}"
