"""What reconciliation found: one row per difference, as long as it is there and as it was."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from kernel.clock import AppNow
from kernel.ids import new_id


class Break(models.Model):
    """A difference. ``name`` and ``subject`` say which; seen again it is the same row, gone it is
    resolved. ``about``: what it is connected with, as ``txn:…``, ``account:…``, ``cause:…``.

    ``gone_at``: when a run found it no more. A person may declare it resolved before that
    (``resolved_by``): if it is still there, the next run opens the same row again, with its age.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rule = models.CharField(max_length=2)
    name = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    expected = models.CharField(max_length=200)
    found = models.CharField(max_length=200)
    text = models.CharField(max_length=500)
    amount = models.BigIntegerField(null=True)  # found less expected, in ``unit``
    unit = models.CharField(max_length=20)
    about = ArrayField(models.CharField(max_length=300), default=list)
    owner = models.CharField(max_length=100, default="", blank=True)
    note = models.TextField(default="", blank=True)
    first_seen_at = models.DateTimeField(db_default=AppNow())
    last_seen_at = models.DateTimeField(db_default=AppNow())
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=100, default="", blank=True)
    gone_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "subject"],
                condition=Q(gone_at__isnull=True),
                name="billing_break_once",
            ),
            models.CheckConstraint(
                condition=Q(gone_at__isnull=True) | Q(resolved_at__isnull=False),
                name="billing_break_gone",
            ),
        ]
        indexes = [
            # Payouts ask how old the oldest open one is; there are a handful among all there were.
            models.Index(
                fields=["first_seen_at"],
                condition=Q(resolved_at__isnull=True),
                name="billing_break_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}"
