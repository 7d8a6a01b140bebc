"""What happened to an instance, step by step: append-only, gapless per instance."""

from __future__ import annotations

import pgtrigger
from django.db import models

from kernel.ids import new_id
from provisioner.models.instance import Instance


class InstanceEvent(models.Model):
    """One step; ``seq`` counts from 1 and was raised in the statement that moved the instance."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="events")
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    state = models.CharField(max_length=12)
    reason = models.CharField(max_length=40)
    fault = models.CharField(max_length=10)
    text = models.CharField(max_length=500)
    evidence = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instance", "seq"], name="instanceevent_gapless")
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)
        ]
