"""What a cluster's preflight found: the present result of every rule, and what changed when."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel.ids import new_id
from provisioner.contracts.preflight import Outcome
from provisioner.models.cluster import Cluster

_KNOWN = Q(outcome__in=[str(outcome) for outcome in Outcome])


class PreflightResult(models.Model):
    """How one rule stands in one cluster. The words of the rule are the table's."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="preflight_results")
    rule = models.CharField(max_length=40)
    table_version = models.PositiveIntegerField()
    outcome = models.CharField(max_length=8)
    measured = models.CharField(max_length=600)
    since = models.DateTimeField()  # this outcome
    checked_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "rule"], name="preflightresult_once"),
            models.CheckConstraint(condition=_KNOWN, name="preflightresult_known"),
        ]


class PreflightChange(models.Model):
    """A rule's outcome from a moment on. Kept for some months (preflight/store.py)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="preflight_changes")
    rule = models.CharField(max_length=40)
    table_version = models.PositiveIntegerField()
    before = models.CharField(max_length=8, default="")  # "": the first look
    outcome = models.CharField(max_length=8)
    measured = models.CharField(max_length=600)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=_KNOWN, name="preflightchange_known")]
        indexes = [models.Index(fields=["cluster", "at"], name="preflightchange_when")]
