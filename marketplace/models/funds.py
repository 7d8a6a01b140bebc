"""How an organization's money stands, as far as its people were told."""

from __future__ import annotations

from django.db import models

from marketplace.models.organization import Organization


class FundsWatch(models.Model):
    """One row per organization that was ever told; written by rentals/ladder.py only.

    told_hours: the forecast told last (72, 24 or 1 hours before the end), empty once it recovered.
    emptied_at and grace_until: the money ended, its people were told then, and until when the data
    of what was stopped is kept.
    """

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    told_hours = models.PositiveSmallIntegerField(null=True)
    emptied_at = models.DateTimeField(null=True)
    grace_until = models.DateTimeField(null=True)
    warned = models.BooleanField(default=False)  # of the deletion, a day before it
    told_count = models.PositiveIntegerField(default=0)  # what makes each telling one of its own

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(emptied_at__isnull=True, grace_until__isnull=True)
                | models.Q(emptied_at__isnull=False, grace_until__isnull=False),
                name="funds_watch_grace",
            )
        ]
        indexes = [
            models.Index(
                fields=["organization"],
                name="funds_watch_empty",
                condition=models.Q(emptied_at__isnull=False),
            ),
        ]
