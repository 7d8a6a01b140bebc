"""What owners announce about cards that are for rent, and what they report of who rents them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.models.base import PublicObject
from marketplace.models.provider import Provider
from marketplace.models.rental import Rental


class Maintenance(PublicObject):
    """A time in which a cluster, or a node of it, is not for rent and nothing runs there.

    Times say how it stands: nothing has to move it on. Without an end it lasts until it is
    withdrawn, which for a cluster that leaves is never.
    """

    kind = "maintenance"

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="maintenance")
    cluster_ref = models.UUIDField()
    node_ref = models.UUIDField(null=True, blank=True)  # null: all of the cluster
    node_name = models.CharField(max_length=253, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    # Begun without the notice that is due: what ran was stopped at once.
    urgent = models.BooleanField(default=False)
    # The code that rentals are stopped for.
    reason = models.CharField(
        max_length=20, choices=[("maintenance", "maintenance"), ("abuse", "abuse")]
    )
    note = models.CharField(max_length=300, blank=True)  # shown to renters
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=F("starts_at")),
                name="maintenance_forward",
            ),
        ]
        indexes = [
            models.Index(
                fields=["cluster_ref"],
                name="maintenance_open",
                condition=Q(withdrawn_at__isnull=True),
            ),
        ]


class AbuseReport(PublicObject):
    """An owner says that its cards are abused; staff decide. A rental that was stopped for it is
    not started again before that."""

    kind = "abuse_report"

    class State(models.TextChoices):
        OPEN = "open"
        UPHELD = "upheld"
        DISMISSED = "dismissed"

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="abuse_reports")
    rental = models.ForeignKey(
        Rental, null=True, blank=True, on_delete=models.PROTECT, related_name="abuse_reports"
    )
    cluster_ref = models.UUIDField(null=True, blank=True)
    text = models.CharField(max_length=2000)
    stopped = models.BooleanField(default=False)  # what it names was stopped at once
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=80, blank=True)
    note = models.CharField(max_length=500, blank=True)  # of staff; the owner reads it

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="open", decided_at__isnull=True)
                | (~Q(state="open") & Q(decided_at__isnull=False)),
                name="abuse_report_decided",
            ),
            models.CheckConstraint(
                condition=Q(rental__isnull=False) | Q(cluster_ref__isnull=False),
                name="abuse_report_names_something",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="abuse_report_open", condition=Q(state="open")),
        ]
