"""The desk of staff: problems that renters report, looks at an organization's pages, and orders
that found no card."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization, User
from marketplace.models.rental import Rental


class ProblemReport(PublicObject):
    """A renter says that something is wrong with a rental or a charge; staff answer."""

    kind = "problem_report"

    class State(models.TextChoices):
        OPEN = "open"
        ANSWERED = "answered"
        CLOSED = "closed"  # with an answer as well: there was nothing to do about it

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="problem_reports"
    )
    reporter = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    # Empty for a charge of a volume.
    rental = models.ForeignKey(
        Rental, null=True, blank=True, on_delete=models.PROTECT, related_name="problem_reports"
    )
    charge_ref = models.UUIDField(null=True, blank=True)
    text = models.CharField(max_length=2000)
    # How it stood when it was reported: by the time it is read, much has changed. ``place`` is for
    # staff only: renters are not told on which node of whose cluster they are.
    seen = models.JSONField(default=dict)
    place = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    answer = models.CharField(max_length=2000, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="open", answered_at__isnull=True, answer="")
                | (~Q(state="open") & Q(answered_at__isnull=False) & ~Q(answer="")),
                name="problem_report_answered",
            ),
            models.CheckConstraint(
                condition=Q(rental__isnull=False) | Q(charge_ref__isnull=False),
                name="problem_report_names_something",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="problem_report_open", condition=Q(state="open")),
            models.Index(fields=["organization", "-id"], name="problem_report_by_owner"),
        ]


class Look(models.Model):
    """A member of staff sees the portal as an organization does, and changes nothing."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=300)
    began_at = models.DateTimeField(db_default=AppNow())
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user"], name="look_one_at_a_time", condition=Q(ended_at__isnull=True)
            ),
        ]
        indexes = [
            models.Index(fields=["until"], name="look_open", condition=Q(ended_at__isnull=True)),
        ]


class UnmetDemand(models.Model):
    """Orders of one shape that found no card in one hour. Empty texts: any."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    hour = models.DateTimeField()
    reason = models.CharField(max_length=20)  # of the refusal
    accelerator = models.CharField(max_length=60, blank=True)
    region = models.CharField(max_length=60, blank=True)
    gpus = models.PositiveIntegerField()  # rounded up to a power of two
    orders = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "reason", "accelerator", "region", "gpus"],
                name="unmet_demand_once",
            ),
        ]
