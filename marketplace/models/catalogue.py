"""What the catalogue remembers: stock and prices of each card by the hour, saved searches."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization, User


class CardSample(models.Model):
    """One card type as it stood at the first look of a clock hour (UTC).

    Only of what was on sale then: an hour without a row is an hour in which nothing was, or in
    which nobody looked. Prices are micro-units per GPU and hour.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    accelerator = models.CharField(max_length=60)  # slug of the registry
    hour = models.DateTimeField()
    offers = models.PositiveIntegerField()
    slots_total = models.PositiveIntegerField()
    slots_free = models.PositiveIntegerField()
    largest_block = models.PositiveIntegerField()
    lowest_micro = models.BigIntegerField()
    median_micro = models.BigIntegerField()
    # Cards that worked for renters at the full price, and what those paid per hour together; null
    # where so few rented that the figure would be somebody's own.
    rented_gpus = models.PositiveIntegerField(null=True)
    rented_micro = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["accelerator", "hour"], name="card_sample_once"),
            models.CheckConstraint(
                condition=models.Q(slots_free__lte=models.F("slots_total")),
                name="card_sample_counts",
            ),
        ]
        indexes = [models.Index(fields=["hour"], name="card_sample_hour")]


class SavedSearch(PublicObject):
    """Filters of the catalogue that somebody wants to see again, and to be told about.

    ``query`` is as an address has it. ``is_there``: offers with free cards matched when it was last
    looked at; a mail is sent when that becomes true, once a day at most.
    """

    kind = "saved_search"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="saved_searches"
    )
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")  # is told
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=2000, blank=True)
    notify = models.BooleanField()
    is_there = models.BooleanField()
    looked_at = models.DateTimeField(db_default=AppNow(), editable=False)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["looked_at"],
                name="saved_search_to_look_at",
                condition=models.Q(notify=True),
            )
        ]
