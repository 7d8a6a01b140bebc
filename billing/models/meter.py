"""The meter of a rental, or of a disk at one size, and its usage lines.

A :class:`RentalMeter` is billing's one row about a rental: the price it was rented at, how much of
it is charged, what is held. It is the lock that orders everything that happens to the rental here.
A disk has one for each size it ever had, because a meter has one price; its GiB stand in ``gpus``.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Extract

from billing.contracts.meters import MeterKind
from billing.contracts.tax import TaxPoint
from billing.models.posting import Transaction
from kernel.clock import AppNow
from kernel.ids import new_id

_GPU = MeterKind.GPU.value
_UNTAXED = TaxPoint.NONE.value


class RentalMeter(models.Model):
    """Price snapshot, cumulative charge and hold of one rental.

    billable_seconds, charged_micro and provider_charged_micro are cumulative, and the charge is
    always the floor of the cumulative formula, so ticks can never drift from it.
    """

    rental_ref = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=4, default=_GPU, db_default=_GPU)
    org_ref = models.UUIDField(db_index=True)
    provider_ref = models.UUIDField(db_index=True)
    currency = models.CharField(max_length=3)
    gpus = models.PositiveIntegerField()
    price_micro_h = models.BigIntegerField()
    provider_micro_h = models.BigIntegerField()
    # Part of the snapshot: tax_ppm is 0 unless the tax point is use.
    tax_point = models.CharField(max_length=5, default=_UNTAXED, db_default=_UNTAXED)
    tax_ppm = models.IntegerField(default=0, db_default=0)
    accelerator = models.CharField(max_length=100)
    description = models.CharField(max_length=300)

    billable_seconds = models.BigIntegerField(default=0)
    charged_micro = models.BigIntegerField(default=0)
    provider_charged_micro = models.BigIntegerField(default=0)
    overrun_micro = models.BigIntegerField(default=0)
    credited_micro = models.BigIntegerField(default=0, db_default=0)  # given back since
    # Tax given back with what was given back. What was taken is the floor of charged less overrun.
    tax_returned_micro = models.BigIntegerField(default=0, db_default=0)
    charged_until = models.DateTimeField(null=True)
    next_seq = models.IntegerField(default=1)

    round = models.PositiveIntegerField(db_default=1)  # raised when it holds again after an end
    held_micro = models.BigIntegerField(default=0)
    running_since = models.DateTimeField(null=True)
    paid_until = models.DateTimeField(null=True)

    # Lines up to these numbers are mirrored to Stripe's meter, or on an invoice.
    mirrored_seq = models.IntegerField(default=0)
    invoiced_seq = models.IntegerField(default=0)

    created_at = models.DateTimeField(db_default=AppNow())
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # The sweep every five seconds reads nothing but meters that run.
            models.Index(
                fields=["paid_until"],
                condition=Q(running_since__isnull=False),
                name="billing_meter_running",
            ),
            models.Index(
                fields=["org_ref", "accelerator"],
                condition=Q(kind=_GPU, mirrored_seq__lt=F("next_seq") - 1),
                name="billing_meter_unmirrored",
            ),
            models.Index(
                fields=["org_ref"],
                condition=Q(invoiced_seq__lt=F("next_seq") - 1),
                name="billing_meter_uninvoiced",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=[str(kind) for kind in MeterKind]), name="billing_meter_kind"
            ),
            models.CheckConstraint(
                condition=Q(
                    gpus__gte=1,
                    price_micro_h__gte=0,
                    provider_micro_h__gte=0,
                    provider_micro_h__lte=F("price_micro_h"),
                ),
                name="billing_meter_price",
            ),
            models.CheckConstraint(
                condition=Q(tax_ppm=0)
                | Q(tax_point=TaxPoint.USE.value, tax_ppm__range=(0, 1_000_000)),
                name="billing_meter_tax",
            ),
            models.CheckConstraint(
                condition=Q(held_micro__gte=0, overrun_micro__gte=0, next_seq__gte=1),
                name="billing_meter_counts",
            ),
            models.CheckConstraint(
                condition=Q(mirrored_seq__lt=F("next_seq"), invoiced_seq__lt=F("next_seq")),
                name="billing_meter_watermarks",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(held_micro=0, running_since__isnull=True),
                name="billing_meter_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"meter of {self.rental_ref}"


class TstzRange(Func):
    function = "TSTZRANGE"
    output_field = DateTimeRangeField()


class UsageLine(models.Model):
    """One charged window, append-only: unbroken, whole seconds, inside one UTC hour.

    amount_micro = provider_micro + fee_micro is the price of the window. overrun_micro is the part
    of it that neither hold nor balance could pay: the platform pays it and the renter never does.
    tax_micro is on top of what the renter pays, amount_micro - overrun_micro.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    meter = models.ForeignKey(
        RentalMeter,
        on_delete=models.PROTECT,
        related_name="lines",
        db_column="rental_ref",
        db_index=False,
    )
    seq = models.IntegerField()
    source_ref = models.UUIDField()
    from_at = models.DateTimeField()
    to_at = models.DateTimeField()
    seconds = models.IntegerField()
    gpus = models.PositiveIntegerField()
    price_micro_h = models.BigIntegerField()
    amount_micro = models.BigIntegerField()
    provider_micro = models.BigIntegerField()
    fee_micro = models.BigIntegerField()
    overrun_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField(default=0, db_default=0)
    txn = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="+", db_index=False)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["meter", "seq"], name="billing_usage_key"),
            models.UniqueConstraint(fields=["txn"], name="billing_usage_txn"),
            ExclusionConstraint(
                name="billing_usage_no_overlap",
                expressions=[
                    ("meter", RangeOperators.EQUAL),
                    (
                        TstzRange("from_at", "to_at", RangeBoundary()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
            models.CheckConstraint(
                condition=Q(seconds__gte=1, seconds=Extract(F("to_at") - F("from_at"), "epoch")),
                name="billing_usage_seconds",
            ),
            models.CheckConstraint(
                condition=Q(
                    to_at__lte=Func(
                        Value("hour"),
                        F("from_at"),
                        Value("UTC"),
                        function="date_trunc",
                        output_field=models.DateTimeField(),
                    )
                    + timedelta(hours=1)
                ),
                name="billing_usage_one_hour",
            ),
            models.CheckConstraint(
                condition=Q(
                    amount_micro=F("provider_micro") + F("fee_micro"),
                    provider_micro__gte=0,
                    # Price and share are floors of their own: they may step in another order.
                    fee_micro__gte=-1,
                    overrun_micro__gte=0,
                    overrun_micro__lte=F("amount_micro"),
                ),
                name="billing_usage_amounts",
            ),
        ]

    @property
    def key(self) -> str:
        """The name that makes a second charge of the same window impossible."""
        return f"use:{self.meter_id}:{self.seq}"

    def __str__(self) -> str:
        return self.key
