"""Evidence for a disk's money: who is metered, and [opened_at, closed_at) in which it was there."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from provisioner.models.cluster import Cluster
from provisioner.models.volume import Volume


class DiskMeter(models.Model):
    """A volume at one size, as its reader rates it under ``ref``. One without is free.

    ``next``: that size is not there yet. ``moved``: something happened that the reader has not
    applied.
    """

    class State(models.TextChoices):
        NEXT = "next"
        CURRENT = "current"
        OVER = "over"

    ref = models.UUIDField(primary_key=True)
    volume = models.ForeignKey(
        Volume, on_delete=models.PROTECT, related_name="meters", db_index=False
    )
    gib = models.PositiveIntegerField()  # as ordered: what the storage rounded up to is a gift
    state = models.CharField(max_length=8, choices=State.choices, default=State.NEXT)
    moved = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["next", "current", "over"]), name="diskmeter_state_known"
            ),
            models.UniqueConstraint(
                fields=["volume", "state"], condition=~Q(state="over"), name="diskmeter_one_each"
            ),
        ]
        indexes = [
            models.Index(fields=["ref"], condition=Q(moved=True), name="diskmeter_moved"),
            models.Index(fields=["volume"], name="diskmeter_volume"),
        ]

    def __str__(self) -> str:
        return f"{self.volume_id} at {self.gib} GiB"


class DiskInterval(models.Model):
    """Opened when the disk was seen, closed by a request, a loss or at the last proof of it.

    While it is open it is good up to the last positive observation of its cluster, and of its node
    where it lies on one. ``good_until`` is that limit once it is closed; closing is final.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    meter = models.ForeignKey(DiskMeter, on_delete=models.PROTECT, related_name="intervals")
    cluster = models.ForeignKey(
        Cluster, on_delete=models.PROTECT, related_name="disk_intervals", db_index=False
    )
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    close_reason = models.CharField(max_length=40, null=True)
    good_until = models.DateTimeField(null=True)
    charged_to = models.DateTimeField()  # whole seconds; the opening rounded up at first
    settled = models.BooleanField(default=False)  # closed and charged to its end

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["meter"], condition=Q(closed_at__isnull=True), name="diskinterval_one_open"
            ),
            models.CheckConstraint(
                condition=Q(closed_at__isnull=True, good_until__isnull=True, settled=False)
                | Q(
                    closed_at__gte=F("opened_at"),
                    good_until__gte=F("opened_at"),
                    good_until__lte=F("closed_at"),
                ),
                name="diskinterval_forward",
            ),
        ]
        indexes = [
            models.Index(
                fields=["charged_to"], condition=Q(settled=False), name="diskinterval_unsettled"
            ),
            models.Index(
                fields=["cluster"], condition=Q(closed_at__isnull=True), name="diskinterval_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} from {self.opened_at}"
