"""What we saw of clusters: positive observations (the base of every charge) and strangers."""

from __future__ import annotations

from django.db import models

from kernel.ids import new_id
from provisioner.models.cluster import Cluster


class Observation(models.Model):
    """One successful full list of our pods in one cluster. One row per list, never per pod."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="observations")
    at = models.DateTimeField()  # when the request was sent: what it proves is at least that old
    kind = models.CharField(max_length=12)  # list, watch
    pods = models.PositiveIntegerField()
    took_ms = models.PositiveIntegerField()

    class Meta:
        indexes = [models.Index(fields=["cluster", "at"], name="observation_cluster_at")]


class UnknownPod(models.Model):
    """A pod with our label and an instance we do not know, e.g. after a restore: only reported."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="unknown_pods")
    namespace = models.CharField(max_length=63)
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=64)
    label = models.CharField(max_length=80)  # the instance it claims
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cluster", "uid"], name="unknownpod_once")]
