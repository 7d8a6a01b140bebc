"""What the reporter in a pod tells: who reports since when, and the figures as samples over time.

The tenant is root in that pod, so nothing here is evidence for money: no interval, charge or state
of an instance is derived from these tables. They serve the graphs of a rental and its idle stop,
which its own people ordered.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from provisioner.models.instance import Instance


class Reporter(models.Model):
    """One row per instance that reported in the last month, updated with each report.

    Only this row refers to the instance: samples refer to it, so that thousands of reports a minute
    lock no instance. No index holds what a report changes, so an update stays on its page.
    """

    instance = models.OneToOneField(
        Instance, on_delete=models.PROTECT, primary_key=True, related_name="reporter"
    )
    reported_at = models.DateTimeField()  # our clock
    pod_at = models.DateTimeField()  # the pod's own: shown to people on call, decides nothing
    boot = models.CharField(max_length=64, default="")  # another one: the program began anew
    ssh = models.CharField(max_length=4, default="")  # up, down or "" (not looked at)
    device_ids = ArrayField(models.CharField(max_length=64), default=list)
    # At which something listens, of TCP; None: it tells nothing of ports.
    listening = ArrayField(models.PositiveIntegerField(), null=True)
    # Since when every card was told to do nothing, without a gap; None: one works, or is not told.
    quiet_since = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ssh__in=["", "up", "down"]), name="reporter_ssh"),
            models.CheckConstraint(
                condition=Q(quiet_since__isnull=True) | Q(quiet_since__lte=models.F("reported_at")),
                name="reporter_quiet_past",
            ),
        ]


class MetricSample(models.Model):
    """The figures of one report, or the averages of ``seconds`` from ``at`` on.

    Devices by their place in the report, as arrays of equal length, so a row of eight cards takes
    some 300 bytes. Kept (instances/samples.py): reports of 15 s for two hours, averages of five
    minutes for two days, of an hour for thirty days; at most 480 + 576 + 720 rows per instance,
    1.8 million for a thousand rentals that run all month, where all reports would be 173 million.
    """

    pk = models.CompositePrimaryKey("reporter_id", "seconds", "at")
    reporter = models.ForeignKey(
        Reporter, on_delete=models.CASCADE, related_name="samples", db_index=False
    )
    seconds = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    gpu_percent = ArrayField(models.FloatField(null=True), default=list)
    memory_used_bytes = ArrayField(models.BigIntegerField(null=True), default=list)
    memory_total_bytes = ArrayField(models.BigIntegerField(null=True), default=list)
    temperature_c = ArrayField(models.FloatField(null=True), default=list)
    disk_used_bytes = models.BigIntegerField(null=True)
    disk_total_bytes = models.BigIntegerField(null=True)

    class Meta:
        # The sweep looks for the oldest of a kind.
        indexes = [models.Index(fields=["seconds", "at"], name="metricsample_age")]
