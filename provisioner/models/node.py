"""Supply as collected: nodes, homogeneous groups of devices, and each node's share of a group.

Counters live on the share (one row per node and group), never on the group: a popular group would
otherwise be one hot row that every rental waits for. The group's figures are a summary that
``provisioner.summaries`` recomputes within a second of a GroupChange row.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.ids import new_id
from provisioner.contracts.supply import Egress
from provisioner.models.cluster import Cluster


class Node(models.Model):
    """A node set aside for gpuyard (label and taint), as last listed. Never deleted while held."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="nodes")
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=64)
    ready = models.BooleanField(default=False)
    ready_at = models.DateTimeField(null=True)  # the last look that showed it ready began then
    ready_since = models.DateTimeField(null=True)  # the cluster's own clock: evidence only
    schedulable = models.BooleanField(default=True)
    sellable = models.BooleanField(default=False)
    reason = models.CharField(max_length=60, default="")  # why it is not sold, or ""
    detail = models.CharField(max_length=500, default="")
    cpu_milli = models.PositiveBigIntegerField(default=0)  # allocatable
    memory_mib = models.PositiveBigIntegerField(default=0)
    disk_mib = models.PositiveBigIntegerField(default=0)
    cordoned_at = models.DateTimeField(null=True)  # its owner took it off sale
    listed_at = models.DateTimeField()
    missing_since = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="node_once")]

    def __str__(self) -> str:
        return self.name


class DeviceGroup(models.Model):
    """One homogeneous group of slots of one cluster: what an offer is derived from.

    Figures are a maintained summary, never more than a second stale; readers join, never count.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="groups")
    provider_ref = models.UUIDField()
    datacenter_ref = models.UUIDField()
    accelerator = models.CharField(max_length=60)  # slug of the registry
    vendor = models.CharField(max_length=40)
    memory_mib = models.PositiveIntegerField()
    driver = models.CharField(max_length=40, default="")
    cuda_max = models.CharField(max_length=12, default="")
    cuda_max_x100 = models.PositiveIntegerField(default=0)  # 12.4 -> 1240: sortable
    sharing_mode = models.CharField(max_length=20, default="whole")
    verified = models.BooleanField(default=False)
    vcpus_milli_per_gpu = models.PositiveIntegerField()
    ram_mib_per_gpu = models.PositiveIntegerField()
    disk_mib_per_gpu = models.PositiveIntegerField()

    # What its owner gives machines of it, once they start anew (facade/supply.py).
    egress = models.CharField(
        max_length=8, db_default=Egress.INTERNET.value, default=Egress.INTERNET.value
    )
    bandwidth_mbps = models.PositiveIntegerField(null=True)  # each way; null: no cap

    listed_ok = models.BooleanField(default=False)  # the cluster is ready and not draining
    # The next three are its cluster's, so that the catalogue filters by them without one more join.
    storage_domain = models.CharField(max_length=8, db_default="none", default="none")
    network_policy = models.CharField(max_length=8, db_default="", default="")
    has_relay = models.BooleanField(db_default=False, default=False)  # renters can get in there
    # What its nodes were measured to do, the worst of them (preflight/claims.py); null: not known.
    score = models.FloatField(null=True)
    disk_kind = models.CharField(max_length=8, db_default="", default="")
    disk_read_mib_s = models.FloatField(null=True)
    disk_write_mib_s = models.FloatField(null=True)
    net_down_mbps = models.FloatField(null=True)
    slots_total = models.PositiveIntegerField(default=0)
    slots_free = models.PositiveIntegerField(default=0)
    largest_block = models.PositiveIntegerField(default=0)  # most free slots on one node
    # Of :class:`Reliability`, for the catalogue: in ten-thousandths, null below the least sample.
    reliability_bp = models.PositiveSmallIntegerField(null=True)
    reliability_sample = models.PositiveIntegerField(db_default=0, default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(egress__in=[str(kind) for kind in Egress]), name="group_egress_known"
            ),
            models.UniqueConstraint(
                fields=[
                    "cluster",
                    "accelerator",
                    "memory_mib",
                    "driver",
                    "cuda_max",
                    "sharing_mode",
                    "verified",
                    "vcpus_milli_per_gpu",
                    "ram_mib_per_gpu",
                    "disk_mib_per_gpu",
                ],
                name="devicegroup_homogeneous",
            ),
            models.CheckConstraint(
                condition=Q(slots_free__lte=F("slots_total"))
                & Q(largest_block__lte=F("slots_free")),
                name="devicegroup_counts",
            ),
        ]
        indexes = [
            models.Index(fields=["accelerator", "largest_block"], name="devicegroup_accelerator"),
            models.Index(fields=["provider_ref"], name="devicegroup_provider"),
            models.Index(fields=["datacenter_ref"], name="devicegroup_datacenter"),
            models.Index(
                fields=["accelerator", "id"],
                name="devicegroup_in_stock",
                condition=Q(listed_ok=True, largest_block__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.accelerator} in {self.cluster_id}"


class NodeShare(models.Model):
    """The slots of one group on one node, with their counts. The row that a reservation locks."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="shares")
    group = models.ForeignKey(DeviceGroup, on_delete=models.PROTECT, related_name="shares")
    resource_name = models.CharField(max_length=100)
    sellable = models.BooleanField(default=True)  # node ready, schedulable, still labelled
    slots_total = models.PositiveIntegerField(default=0)
    slots_free = models.PositiveIntegerField(default=0)
    # The node offers fewer devices than are held: at least one renter has lost a card.
    short = models.BooleanField(default=False)
    # Other cards were found than the labels say (instances/quarantine.py): {"text", "evidence"}.
    quarantined_at = models.DateTimeField(null=True)
    quarantine = models.JSONField(null=True)
    quarantine_lifted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "resource_name"], name="nodeshare_once"),
            models.CheckConstraint(
                condition=Q(slots_free__lte=F("slots_total")), name="nodeshare_counts"
            ),
        ]
        indexes = [
            models.Index(
                fields=["group", "slots_free"],
                name="nodeshare_candidates",
                condition=Q(sellable=True, slots_free__gt=0),
            ),
        ]


class GroupChange(models.Model):
    """A hint, in the transaction that changed a share: this group's summary is to be recomputed.

    Rows are only inserted and deleted, so noting a change waits for nobody.
    """

    id = models.BigAutoField(primary_key=True)
    group = models.ForeignKey(
        DeviceGroup, on_delete=models.CASCADE, db_constraint=False, db_index=False
    )
