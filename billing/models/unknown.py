"""Objects at Stripe that carry our metadata and that our database does not know."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id


class UnknownObject(models.Model):
    """As after a restore of the database: neither credited nor charged, a person decides."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    stripe_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=50)  # Stripe's name, e.g. payment_intent
    status = models.CharField(max_length=50, default="", blank=True)
    amount_minor = models.BigIntegerField(null=True)
    currency = models.CharField(max_length=10, default="", blank=True)
    customer = models.CharField(max_length=255, default="", blank=True)  # Stripe's id
    names = models.CharField(max_length=50)  # the metadata key, which says what it claims to be
    claimed_ref = models.UUIDField()  # the row of ours that it claims to be of
    first_seen_at = models.DateTimeField(db_default=AppNow())
    last_seen_at = models.DateTimeField(db_default=AppNow())

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"
