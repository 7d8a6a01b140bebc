"""Probes: pods of the platform's own that are run once in a cluster, and what they measured.

A probe is a row before it is a pod, and its card is taken in the row's transaction: the database
refuses a second open probe of a cluster or a slot, and a renter gets free slots only.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel.ids import new_id
from provisioner.models.cluster import Cluster, Namespace
from provisioner.models.node import DeviceGroup, Node, NodeShare
from provisioner.models.slot import Slot


class Probe(models.Model):
    """wanted -> running (its pod exists) -> ending (has told, or never will) -> gone (absence
    observed: card and namespace are given back)."""

    class Kind(models.TextChoices):
        NETWORK = "network"
        BENCHMARK = "benchmark"

    class State(models.TextChoices):
        WANTED = "wanted"
        RUNNING = "running"
        ENDING = "ending"
        GONE = "gone"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="probes")
    number = models.PositiveIntegerField()  # of the cluster; the pod is called by it
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WANTED)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="+", db_index=False)
    # Of a benchmark: what it measures, and the card that is kept from renters meanwhile.
    share = models.ForeignKey(
        NodeShare, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    group = models.ForeignKey(
        DeviceGroup, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    slot = models.ForeignKey(
        Slot, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    namespace = models.ForeignKey(
        Namespace, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    pod_name = models.CharField(max_length=63)
    pod_uid = models.CharField(max_length=64, default="")
    # When a create was sent whose outcome nobody knows: until it can have landed no absence counts.
    sent_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    deadline_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)  # None: it told nothing
    failure = models.CharField(max_length=200, default="")  # why not, for its owner

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cluster", "number"], name="probe_numbered"),
            models.UniqueConstraint(
                fields=["cluster"], condition=~Q(state="gone"), name="probe_one_open"
            ),
            models.UniqueConstraint(
                fields=["slot"],
                condition=~Q(state="gone") & Q(slot__isnull=False),
                name="probe_slot_once",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["wanted", "running", "ending", "gone"]),
                name="probe_state_known",
            ),
        ]
        indexes = [
            models.Index(fields=["cluster", "kind", "created_at"], name="probe_of_cluster"),
        ]

    def __str__(self) -> str:
        return self.pod_name


class Benchmark(models.Model):
    """What one node was last measured to do, as a member of one group. A node whose driver or shape
    changes is of another group, and has none there until it is measured again."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    share = models.ForeignKey(
        NodeShare, on_delete=models.CASCADE, related_name="benchmarks", db_index=False
    )
    group = models.ForeignKey(DeviceGroup, on_delete=models.CASCADE, related_name="benchmarks")
    measured_at = models.DateTimeField()
    score = models.FloatField(null=True)
    result = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["share", "group"], name="benchmark_once"),
        ]
