"""How far an unpaid invoice's people were reminded."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from marketplace.models.organization import Organization


class Dunning(models.Model):
    """One row per invoice that was ever overdue; ``day`` is the last step that was told."""

    invoice_ref = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    day = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)
