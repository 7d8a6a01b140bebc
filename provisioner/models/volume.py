"""Volumes: persistent disks that outlive instances, who has them, and the proof of their end.

Rows are moved by volumes/move.py alone. The Kubernetes object behind a volume is a
PersistentVolumeClaim, called pvc here: a claim is, in this area, a worker's hold on a row.
"""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from kernel.ids import new_id
from provisioner.contracts import StorageDomain, VolumeState
from provisioner.models.cluster import Cluster, Namespace
from provisioner.models.instance import Instance
from provisioner.models.node import Node


class Volume(models.Model):
    """What was wished for, where it lives, what was seen, who works at it."""

    class Desired(models.TextChoices):
        KEEP = "keep"
        DELETE = "delete"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant_ref = models.UUIDField(db_index=True)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="volumes")
    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="volumes")
    storage_class = models.CharField(max_length=253)
    domain = models.CharField(max_length=8)
    reclaim = models.CharField(max_length=10)  # the class's policy: Delete or Retain
    waits = models.BooleanField()  # the class binds at the first use only
    expandable = models.BooleanField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, null=True, related_name="volumes")

    # The wish. generation rises with each change of it, so work on an old wish cannot be stored.
    size_gib = models.PositiveIntegerField()
    desired = models.CharField(max_length=6, choices=Desired.choices, default=Desired.KEEP)
    generation = models.PositiveIntegerField(default=1)

    state = models.CharField(max_length=10, default=VolumeState.REQUESTED.value)
    reason = models.CharField(max_length=40, default="requested")
    state_since = models.DateTimeField()
    event_seq = models.PositiveIntegerField(default=1)
    bound_gib = models.PositiveIntegerField(null=True)

    # The meter's evidence, by the database's clock.
    created_at = models.DateTimeField()
    bound_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)  # the last look that showed it bound began then
    delete_requested_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    lost_at = models.DateTimeField(null=True)

    # The object: name derived from the id, identity is the UID.
    pvc_name = models.CharField(max_length=63)
    pvc_uid = models.CharField(max_length=64, null=True)
    # No create of ours can take effect after this time: absence counts only when seen later.
    create_until = models.DateTimeField(null=True)

    # The claim of the loop that works at it.
    due_at = models.DateTimeField(null=True)
    claim_token = models.UUIDField(null=True)
    claim_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    worked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[str(state) for state in VolumeState]),
                name="volume_state_known",
            ),
            models.CheckConstraint(
                condition=Q(domain__in=[str(StorageDomain.NODE), str(StorageDomain.CLUSTER)]),
                name="volume_domain_known",
            ),
            models.CheckConstraint(condition=Q(size_gib__gte=1), name="volume_size"),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=False) | ~Q(state=VolumeState.DELETED.value),
                name="volume_deleted_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], name="volume_due", condition=Q(due_at__isnull=False)),
            models.Index(
                fields=["namespace"],
                name="volume_there",
                condition=~Q(state=VolumeState.DELETED.value),
            ),
        ]

    def __str__(self) -> str:
        return self.pvc_name


class VolumeEvent(models.Model):
    """One step of a volume with its size then: append-only, gapless per volume."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT, related_name="events")
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    state = models.CharField(max_length=10)
    reason = models.CharField(max_length=40)
    bound_gib = models.PositiveIntegerField(null=True)
    text = models.CharField(max_length=500)
    evidence = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["volume", "seq"], name="volumeevent_gapless")
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)
        ]


class VolumeAttachment(models.Model):
    """A volume given to an instance, from its reservation until its absence was observed."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    volume = models.ForeignKey(
        Volume, on_delete=models.PROTECT, related_name="attachments", db_index=False
    )
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="attachments")
    from_at = models.DateTimeField()
    to_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # Two pods that write one file system at once destroy it: the schema forbids it.
            models.UniqueConstraint(
                fields=["volume"], condition=Q(to_at__isnull=True), name="attachment_one_open"
            ),
        ]
        indexes = [models.Index(fields=["volume", "from_at"], name="attachment_volume")]


class VolumeReceipt(models.Model):
    """That a volume's claim is gone: content, digest and signature as given out; append-only."""

    volume = models.OneToOneField(
        Volume, on_delete=models.PROTECT, primary_key=True, related_name="receipt"
    )
    at = models.DateTimeField()
    content = models.JSONField()
    sha256 = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)
    public_key = models.CharField(max_length=64)

    class Meta:
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)
        ]


class UnknownVolume(models.Model):
    """A claim with our label and no volume of ours behind it, e.g. after a restore: only reported,
    because it may hold somebody's only copy."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="unknown_volumes")
    namespace = models.CharField(max_length=63)
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=64)
    label = models.CharField(max_length=80)  # the volume it says it is
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "uid"], name="unknownvolume_once")
        ]
