"""Switches of the people on call. A row is one time that a switch was on: history is kept."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from kernel.clock import AppNow
from kernel.ids import new_id


class Switch(models.Model):
    """On from ``on_at`` until ``off_at``. ``cluster_ref`` NULL: everywhere."""

    class Name(models.TextChoices):
        STOP_RENTALS = "stop_rentals"  # no new rental, start or retry; what runs goes on
        STOP_CHARGING = "stop_charging"  # proven windows wait; nothing is stopped for money
        READ_ONLY = "read_only"  # API and portal only show

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=20, choices=Name.choices)
    cluster_ref = models.UUIDField(null=True, blank=True)
    note = models.CharField(max_length=300)  # shown to those who are refused
    on_at = models.DateTimeField(db_default=AppNow())
    on_by = models.CharField(max_length=80)
    off_at = models.DateTimeField(null=True, blank=True)
    off_by = models.CharField(max_length=80, default="", blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "cluster_ref"],
                condition=Q(off_at__isnull=True),
                nulls_distinct=False,
                name="switch_one_on",
            ),
            models.CheckConstraint(
                condition=Q(name__in=["stop_rentals", "stop_charging", "read_only"]),
                name="switch_name_known",
            ),
            models.CheckConstraint(
                condition=Q(cluster_ref__isnull=True) | Q(name="stop_rentals"),
                name="switch_cluster_of_rentals",
            ),
            models.CheckConstraint(
                condition=Q(off_at__isnull=True, off_by="")
                | (Q(off_at__gte=F("on_at")) & ~Q(off_by="")),
                name="switch_off_whole",
            ),
        ]
        indexes = [models.Index(fields=["-on_at"], name="switch_recent")]
        triggers = [pgtrigger.Protect(name="kept", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.name} {self.on_at}"
