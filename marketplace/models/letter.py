"""What happened and people are to be mailed of, until the mail about it is ordered."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.organization import Organization


class Letter(models.Model):
    """One fact of one event (accounts/letters.py). Several that come together are one mail.

    The cause makes the fact one and the same: whoever applies it twice after a crash tells once.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    event = models.CharField(max_length=40)
    cause = models.CharField(max_length=120)
    facts = models.JSONField(default=dict)  # texts, never a secret
    # Members told whatever their role is, such as who ordered the rental.
    also = ArrayField(models.UUIDField(), default=list)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "event", "cause"], name="letter_once")
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                name="letter_unposted",
                condition=models.Q(posted_at__isnull=True),
            ),
            models.Index(fields=["posted_at"], name="letter_age"),
        ]
