"""What a program wrote last before its instance ended by itself: a month, never changed."""

from __future__ import annotations

import pgtrigger
from django.db import models

from kernel.ids import new_id
from provisioner.models.instance import Instance


class InstanceLog(models.Model):
    """The end of one run's log as harmless text (instances/loglines.py), or why there is none.

    Fetched once before the pod is deleted; a row with a ``problem`` says that this was tried.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="logs")
    previous = models.BooleanField(default=False)  # of the run before the last restart
    taken_at = models.DateTimeField()
    text = models.TextField(default="")
    truncated = models.BooleanField(default=False)
    problem = models.CharField(max_length=40, default="")  # a code of kube/errors.py

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["instance", "previous"], name="instancelog_once")
        ]
        indexes = [models.Index(fields=["taken_at"], name="instancelog_taken_at")]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update),
            # Pruning is the one reason to delete, so anything younger is protected.
            pgtrigger.Protect(
                name="kept_a_month",
                operation=pgtrigger.Delete,
                condition=pgtrigger.Condition("OLD.taken_at > app_now() - interval '29 days'"),
            ),
        ]
