"""The standing order to top up by itself."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.payment import Customer, PaymentMethod
from kernel.clock import AppNow


class AutoTopUp(models.Model):
    """One organization's standing order, and why it is off if we switched it off.

    ``news`` is what its people have to be told and were not yet.
    """

    OFF_REASONS = ("", "failed", "no_card")
    NEWS = ("", "failed", "no_card", "action")

    customer = models.OneToOneField(
        Customer,
        primary_key=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_column="org_ref",
    )
    enabled = models.BooleanField()
    off_reason = models.CharField(max_length=10, default="", blank=True)
    threshold_micro = models.BigIntegerField()
    target_micro = models.BigIntegerField()
    daily_micro = models.BigIntegerField()
    # Empty: the newest saved card, whichever that is then.
    method = models.ForeignKey(PaymentMethod, null=True, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()  # what failed before does not count against the order
    news = models.CharField(max_length=10, default="", blank=True)
    asked_ref = models.UUIDField(null=True)  # the top-up for which its people were asked to confirm
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_micro__gte=0, target_micro__gt=F("threshold_micro")),
                name="billing_autotopup_span",
            ),
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(off_reason=""), name="billing_autotopup_off"
            ),
        ]
        indexes = [
            models.Index(
                fields=["customer"], condition=Q(enabled=True), name="billing_autotopup_on"
            ),
            models.Index(fields=["customer"], condition=~Q(news=""), name="billing_autotopup_news"),
        ]

    def __str__(self) -> str:
        return f"auto top-up of {self.customer_id}"
