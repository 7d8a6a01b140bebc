"""How the placements on a group of cards ended: kept by a loop (inventory/record.py)."""

from __future__ import annotations

from django.db import models

from provisioner.models.node import DeviceGroup


class Reliability(models.Model):
    """Of one group, over the last thirty days. ``failures`` and ``uncounted``: {cause: number}."""

    group = models.OneToOneField(
        DeviceGroup, primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    kept = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    started = models.PositiveIntegerField()  # of both: those that were ready once
    failures = models.JSONField(default=dict)
    uncounted = models.JSONField(default=dict)
    changed_at = models.DateTimeField()
