"""A person's second factor: the sealed secret of their app, and codes for when it is lost.

Whether it is on is said by ``User.second_factor_at`` alone: that row comes with every request.
"""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.organization import User


class SecondFactor(models.Model):
    """last_step: the newest time step whose code was taken; an older or the same one never is."""

    user = models.OneToOneField(
        User, on_delete=models.CASCADE, primary_key=True, related_name="second_factor"
    )
    secret_sealed = models.BinaryField()
    last_step = models.BigIntegerField(default=0)
    offered_at = models.DateTimeField(db_default=AppNow())  # a secret nobody confirms goes stale


class RecoveryCode(models.Model):
    """One code that stands in for the app once. The code itself is stored nowhere."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    code_hash = models.BinaryField(max_length=32)
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "code_hash"], name="recovery_code_once")
        ]
