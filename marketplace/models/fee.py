"""Changes of the platform's fee: what is kept of a price, from when on, and of whose cards."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.models.base import PublicObject
from marketplace.models.provider import Provider

MAX_FEE_BPS = 5000  # half of the price; more is a slip of the finger


class FeeChange(PublicObject):
    """From ``valid_from`` on, new rentals on these cards pay the platform this part of the price.

    Nothing is ever edited: a fee that is no longer right is followed by the next change, and one
    that has not begun may be withdrawn.
    """

    kind = "fee_change"

    # None: of everybody who has agreed nothing else.
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.PROTECT, related_name="fee_changes"
    )
    # A card's slug or its vendor's; empty: all cards, and volumes as well.
    accelerator = models.CharField(max_length=100, blank=True)
    fee_bps = models.PositiveIntegerField()
    valid_from = models.DateTimeField()
    reason = models.CharField(max_length=500)  # owners read it
    made_by = models.CharField(max_length=100)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.CharField(max_length=100, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(fee_bps__lte=MAX_FEE_BPS), name="fee_at_most_half"),
            # What held once was paid by it: it stays in the history.
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True) | Q(withdrawn_at__lt=F("valid_from")),
                name="fee_withdrawn_before_it_held",
            ),
        ]
        indexes = [
            models.Index(
                fields=["provider", "valid_from"],
                name="fee_change_in_force",
                condition=Q(withdrawn_at__isnull=True),
            ),
        ]
