"""Owners of cards and where the cards stand."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization


class Provider(PublicObject):
    """An organization that supplies cards. ``owned`` is the platform itself."""

    kind = "provider"

    class State(models.TextChoices):
        APPLIED = "applied"
        APPROVED = "approved"
        SUSPENDED = "suspended"

    class Ownership(models.TextChoices):
        OWNED = "owned"
        PARTNER = "partner"

    organization = models.OneToOneField(
        Organization, on_delete=models.PROTECT, related_name="provider"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.APPLIED)
    reason = models.CharField(max_length=200, blank=True)
    ownership = models.CharField(
        max_length=10, choices=Ownership.choices, default=Ownership.PARTNER
    )
    contact_email = models.EmailField()
    description = models.CharField(max_length=500, blank=True)
    # The fee agreed with the approval, in basis points; None: everybody's. Changes of it are rows
    # (models/fee.py). Owned cards pay none away.
    fee_bps = models.PositiveIntegerField(null=True, blank=True)
    # Networks and ports staff bound this provider's API servers to (a VPN): not public otherwise.
    allowed_networks = ArrayField(models.CharField(max_length=43), default=list, blank=True)
    allowed_ports = ArrayField(models.PositiveIntegerField(), default=list, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)


class DataCenter(PublicObject):
    """A place with cards; its region and country are what a renter filters by."""

    kind = "datacenter"

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="datacenters")
    name = models.CharField(max_length=60)
    region = models.CharField(max_length=40)
    country = models.CharField(max_length=2)
    # What volumes made here from now on cost; 0: nothing.
    disk_price_micro_gib_month = models.BigIntegerField(db_default=0, default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "name"], name="datacenter_name_once"),
            models.CheckConstraint(
                condition=models.Q(disk_price_micro_gib_month__gte=0), name="datacenter_disk_price"
            ),
        ]
