"""Where a customer is taxed, and the rates that Stripe Tax found for it. Rows never change their
question: a new address is a new row, so an intent always asks what it asked first."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from billing.contracts.tax import Exempt
from kernel.clock import AppNow
from kernel.ids import new_id


class TaxProfile(models.Model):
    """One state of a customer's address and tax ids; the newest counts."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField()
    country = models.CharField(max_length=2)
    postal_code = models.CharField(max_length=20, blank=True)
    state = models.CharField(max_length=100, blank=True)
    city = models.CharField(max_length=100, blank=True)
    line1 = models.CharField(max_length=200, blank=True)
    tax_ids: Any = models.JSONField(default=list)  # [[type, value], ...]
    exempt = models.CharField(
        max_length=10, choices=[(one.value, one.value) for one in Exempt], default=Exempt.NONE
    )
    failure = models.CharField(max_length=500, default="", blank=True)  # of telling Stripe
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [models.Index(fields=["org_ref", "-id"], name="billing_taxprofile_newest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(exempt__in=[one.value for one in Exempt]),
                name="billing_taxprofile_exempt",
            )
        ]

    def __str__(self) -> str:
        return f"{self.country} {self.postal_code}"


class TaxRate(models.Model):
    """One answer of Stripe Tax for a profile: parts per million of the net, and why."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    profile = models.ForeignKey(TaxProfile, on_delete=models.PROTECT, related_name="rates")
    ppm = models.IntegerField(null=True)
    reason = models.CharField(max_length=50, default="", blank=True)
    stripe_id = models.CharField(max_length=255, null=True)  # the calculation it is from
    failure = models.CharField(max_length=500, default="", blank=True)
    determined_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [models.Index(fields=["profile", "-id"], name="billing_taxrate_newest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(ppm__isnull=True, determined_at__isnull=True)
                | Q(ppm__range=(0, 1_000_000), determined_at__isnull=False),
                name="billing_taxrate_ppm",
            )
        ]

    def __str__(self) -> str:
        return f"{self.ppm} ppm"
