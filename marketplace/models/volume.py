"""Volumes as their owners know them, and which rental mounts which.

What a volume is in its cluster (state, size there, times of its meter) is the provisioner's row of
the same id; this one says whose it is and what it is called.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.db import models

from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization, Project, User
from marketplace.models.provider import DataCenter
from marketplace.models.rental import Rental


class Volume(PublicObject):
    """A persistent disk of an organization, in one data centre for life."""

    kind = "volume"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="volumes")
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.PROTECT, related_name="volumes"
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    datacenter = models.ForeignKey(DataCenter, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    labels = models.JSONField(default=dict, blank=True)
    size_gib = models.PositiveIntegerField()  # as ordered: what counts against the quota
    # What a GiB costs a month, and the owner's share of it, as agreed when the volume was made: for
    # its whole life, whatever its size. 0: free.
    price_micro_gib_month = models.BigIntegerField(db_default=0, default=0)
    share_bps = models.PositiveIntegerField(db_default=0, default=0)
    removed_at = models.DateTimeField(null=True, blank=True)  # its deletion was asked for

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-id"], name="volume_by_organization"),
            models.Index(
                fields=["organization"],
                name="volume_kept",  # what counts against the quota
                condition=models.Q(removed_at__isnull=True),
            ),
            GinIndex(fields=["labels"], name="volume_by_label"),
        ]


class VolumeMeter(models.Model):
    """A volume at one size, under the id by which the provisioner meters and billing charges it.

    running: it is there and costs; over_at: it never will again; settled_at: its hold is returned.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="meters")
    size_gib = models.PositiveIntegerField()
    price_micro_h = models.BigIntegerField()
    running = models.BooleanField(default=False)
    over_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["id"],
                name="volume_meter_to_settle",
                condition=models.Q(over_at__isnull=False, settled_at__isnull=True),
            )
        ]


class RentalVolume(models.Model):
    """A volume that a rental mounts, at every one of its starts."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rental = models.ForeignKey(Rental, on_delete=models.PROTECT, related_name="mounts")
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="mounts")
    mount = models.CharField(max_length=400)
    read_only = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rental", "volume"], name="rental_volume_once"),
            models.UniqueConstraint(fields=["rental", "mount"], name="rental_mount_once"),
        ]
