"""What an owner says a kind of card costs it: the figures of providers/economics.py, kept."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.provider import Provider


class CardCost(models.Model):
    """Of one card type of one owner. Nobody else ever sees it.

    ``figures`` are those of ``economics.Inputs`` without the fee, which is the owner's of the day:
    whole micro-units, and decimals as the text that was given, so that nothing is rounded here.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="card_costs")
    accelerator = models.CharField(max_length=60)  # slug of the registry
    figures = models.JSONField()
    changed_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "accelerator"], name="card_cost_once"),
        ]
