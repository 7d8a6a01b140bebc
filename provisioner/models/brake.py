"""The mass brake's memory: when it was pulled, for what, and who let go.

While a row is open, nothing of its cluster is ended, failed over or deleted by our own decision.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from provisioner.models.cluster import Cluster


class Brake(models.Model):
    """One pull. ``cluster`` NULL: everywhere, which only a restore of the database does."""

    class Cause(models.TextChoices):
        LIST = "list"  # one full list made too many instances look bad
        TROUBLE = "trouble"  # too many are in trouble whose grace ends at the same time
        ENDS = "ends"  # one end after the other added up: only a person can tell why
        SWEEP = "sweep"  # one sweep found too many pods to delete
        RESTORED = "restored"  # the database is older than the world

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="brakes", null=True, db_index=False
    )
    cause = models.CharField(max_length=10, choices=Cause.choices)
    tripped_at = models.DateTimeField()
    wanted = models.PositiveIntegerField()  # the most that was wanted at once while it is open
    limit = models.PositiveIntegerField()
    detail = models.CharField(max_length=500, default="", blank=True)
    backup_at = models.DateTimeField(null=True)  # of the backup that was restored
    released_at = models.DateTimeField(null=True)
    released_by = models.CharField(max_length=100, default="", blank=True)
    note = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["cluster"],
                condition=Q(released_at__isnull=True),
                nulls_distinct=False,
                name="brake_one_open",
            ),
            models.CheckConstraint(
                condition=Q(cluster__isnull=False, backup_at__isnull=True)
                | Q(cluster__isnull=True, backup_at__isnull=False, cause="restored"),
                name="brake_everywhere_is_restored",
            ),
            models.CheckConstraint(
                condition=Q(released_at__isnull=True, released_by="")
                | (Q(released_at__gte=F("tripped_at")) & ~Q(released_by="")),
                name="brake_released_whole",
            ),
        ]
        indexes = [models.Index(fields=["cluster", "released_at"], name="brake_cluster_released")]

    def __str__(self) -> str:
        return f"{self.cause} {self.tripped_at}"


class DeletedOrphan(models.Model):
    """A pod that a sweep deleted because its instance was over; written before the deletion is
    sent, so that what a crash interrupts counts as well."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(
        Cluster, on_delete=models.CASCADE, related_name="deleted_orphans", db_index=False
    )
    namespace = models.CharField(max_length=63)
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=64)
    label = models.CharField(max_length=80)  # the instance it belonged to
    deleted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "uid"], name="deletedorphan_once")
        ]
        indexes = [models.Index(fields=["cluster", "deleted_at"], name="deletedorphan_recent")]

    def __str__(self) -> str:
        return self.name
