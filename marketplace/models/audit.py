"""Who did what. Rows are inserted unchained in the business transaction; one sealer appends them
to the hash chain within seconds, so no write ever waits for the chain's tail."""

from __future__ import annotations

import pgtrigger
from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id

APPEND_ONLY = pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)


class AuditEntry(models.Model):
    """An action, append-only (a trigger refuses UPDATE and DELETE)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization_ref = models.UUIDField(null=True)
    actor = models.CharField(max_length=80)  # user:…, key:…, staff:…, platform
    on_behalf = models.CharField(max_length=80, blank=True)
    action = models.CharField(max_length=60)
    object = models.CharField(max_length=80)
    details = models.JSONField(default=dict)
    ts = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["organization_ref", "-id"], name="audit_by_organization")]
        triggers = [APPEND_ONLY]


class AuditSeal(models.Model):
    """The chain: seq is gapless, hash covers the entry's content and the previous hash."""

    seq = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(AuditEntry, on_delete=models.PROTECT, related_name="seal")
    prev_hash = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        triggers = [APPEND_ONLY]
