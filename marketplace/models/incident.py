"""Incidents: a named fault and what the renters whom it touched are given for it."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.provider import Provider
from marketplace.models.rental import Rental

# As for orders of money that goes back: whoever is alone with it carries it out a day later.
ALONE = timedelta(days=1)


class Incident(PublicObject):
    """What happened, where and when; then who ordered its credits and who agreed.

    A draft is worked out anew at each look. Ordered, its lines are fixed (:class:`IncidentLine`):
    what is agreed to is what is booked, or less where something was credited meanwhile.
    """

    kind = "incident"

    class State(models.TextChoices):
        DRAFT = "draft"
        WAITING = "waiting"  # for a second person
        POSTING = "posting"  # the loop books it, batch by batch
        POSTED = "posted"
        WITHDRAWN = "withdrawn"

    class Cause(models.TextChoices):
        PLATFORM = "platform"
        HOST = "host"

    class Basis(models.TextChoices):
        MEASURED = "measured"  # interrupted or degraded, as the platform saw it
        WHOLE = "whole"  # all of the window in which it ran: for faults that no meter sees

    title = models.CharField(max_length=120)  # renters read it
    note = models.CharField(max_length=500, blank=True)  # they read it as well
    cause = models.CharField(max_length=10, choices=Cause.choices)
    basis = models.CharField(max_length=10, choices=Basis.choices)
    percent = models.PositiveIntegerField()
    # Neither: the whole platform. Clusters are of this provider, where it is given.
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents"
    )
    cluster_refs = ArrayField(models.UUIDField(), default=list, blank=True)
    from_at = models.DateTimeField()
    to_at = models.DateTimeField()
    made_by = models.CharField(max_length=100)

    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    total_micro = models.BigIntegerField(default=0)  # when it was ordered
    needs_second = models.BooleanField(default=False)
    ordered_by = models.CharField(max_length=100, blank=True)
    ordered_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.CharField(max_length=100, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    alone = models.BooleanField(default=False)
    withdrawn_by = models.CharField(max_length=100, blank=True)
    withdrawn_for = models.CharField(max_length=500, blank=True)
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(to_at__gt=F("from_at")), name="incident_forward"),
            models.CheckConstraint(
                condition=Q(percent__gte=1, percent__lte=100), name="incident_percent"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "withdrawn"]) | Q(ordered_at__isnull=False),
                name="incident_ordered",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["posting", "posted"])
                | Q(needs_second=False)
                | Q(alone=False, approved_at__isnull=False) & ~Q(approved_by=F("ordered_by"))
                | Q(
                    alone=True,
                    approved_by=F("ordered_by"),
                    approved_at__gte=F("ordered_at") + ALONE,
                ),
                name="incident_second",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="incident_to_post", condition=Q(state="posting")),
        ]


class IncidentLine(models.Model):
    """One rental's part of an incident that was ordered. spans: the stretches that count, as pairs
    of times; amounts as worked out then; posted_micro: as booked."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="lines")
    rental = models.ForeignKey(Rental, on_delete=models.PROTECT, related_name="incident_lines")
    spans = models.JSONField()
    seconds = models.IntegerField()
    amount_micro = models.BigIntegerField()
    provider_micro = models.BigIntegerField()
    posted_micro = models.BigIntegerField(null=True)
    posted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["incident", "rental"], name="incident_line_once"),
        ]
        indexes = [
            models.Index(
                fields=["incident"],
                name="incident_line_to_post",
                condition=Q(posted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} for {self.rental_id}"
