"""What is on sale: an offer per homogeneous group of cards, and the images to run on it."""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization
from marketplace.models.provider import DataCenter, Provider
from marketplace.models.secret import RegistryCredential


class Offer(PublicObject):
    """One homogeneous group of slots with its price.

    Stock is never written here: it is the provisioner's maintained summary, joined by ``group``.
    Region, country and ownership repeat the data centre's so that the catalogue is one join.
    """

    kind = "offer"

    class State(models.TextChoices):
        DRAFT = "draft"  # derived, has no price yet
        ACTIVE = "active"
        PAUSED = "paused"
        ENDED = "ended"

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="offers")
    datacenter = models.ForeignKey(DataCenter, on_delete=models.PROTECT, related_name="offers")
    group = models.OneToOneField(
        "provisioner.DeviceGroup", on_delete=models.PROTECT, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    reason = models.CharField(max_length=200, blank=True)
    price_micro_h = models.BigIntegerField(default=0)  # per GPU and hour
    # What a GPU-hour costs where the rental may be interrupted; null: the owner allows none.
    interruptible_price_micro_h = models.BigIntegerField(null=True, blank=True)
    min_gpus = models.PositiveIntegerField(default=1)
    ownership = models.CharField(max_length=10, choices=Provider.Ownership.choices)
    region = models.CharField(max_length=40)
    country = models.CharField(max_length=2)
    tier = models.CharField(max_length=20, default="standard")
    isolation = models.CharField(max_length=20, default="container")
    ends_at = models.DateTimeField(null=True, blank=True)
    # Hours of the week in which it is for rent (catalog/availability.py); null: always.
    windows = models.JSONField(null=True, blank=True)
    # The stretch in which it is for rent now, or next: windows, end date and maintenance together
    # (catalog/opening.py). Without an end: as far as is known, for good.
    opens_at = models.DateTimeField(null=True, blank=True)
    closes_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(price_micro_h__gt=0) | ~models.Q(state="active"),
                name="active_offer_has_price",
            ),
            models.CheckConstraint(
                condition=models.Q(interruptible_price_micro_h__isnull=True)
                | models.Q(interruptible_price_micro_h__gt=0),
                name="offer_interruptible_price_positive",
            ),
        ]
        indexes = [
            models.Index(
                fields=["price_micro_h", "id"],
                name="offer_by_price",
                condition=models.Q(state="active"),
            ),
            models.Index(
                fields=["interruptible_price_micro_h", "id"],
                name="offer_by_interruptible_price",
                condition=models.Q(state="active", interruptible_price_micro_h__isnull=False),
            ),
            models.Index(
                fields=["closes_at"],
                name="offer_closing",
                condition=models.Q(closes_at__isnull=False),
            ),
        ]


class PriceVersion(models.Model):
    """Every price an offer ever had; a quote names the version it was made from."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    offer = models.ForeignKey(Offer, on_delete=models.PROTECT, related_name="prices")
    number = models.PositiveIntegerField()
    price_micro_h = models.BigIntegerField()
    interruptible_price_micro_h = models.BigIntegerField(null=True)  # null: not offered then
    from_at = models.DateTimeField(db_default=AppNow(), editable=False)
    actor = models.CharField(max_length=80)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["offer", "number"], name="price_version_once")
        ]


class Template(PublicObject):
    """An image with its command and needs. ``organization`` is empty for curated ones."""

    kind = "template"

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="templates"
    )
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=500, blank=True)
    image = models.CharField(max_length=400)  # name@sha256:digest
    command = models.JSONField(default=list, blank=True)  # list of words
    env = models.JSONField(default=dict, blank=True)  # of curated ones only, which hold no secret
    # An organization's own: JSON, sealed for this row. People paste tokens into the wrong field.
    env_sealed = models.BinaryField(null=True, blank=True)
    ports = models.JSONField(default=list, blank=True)  # numbers
    # The same in full (accounts/ports.py), beside them for the version that knows numbers alone.
    ports_kept = models.JSONField(
        default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    # {"vendor": [...], "toolkit": "cuda", "min_memory_gib": 24, "min_cuda": "12.4"}
    needs = models.JSONField(default=dict, blank=True)
    registry_credential = models.ForeignKey(
        RegistryCredential,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="templates",
    )
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "slug"], name="template_slug_once", nulls_distinct=False
            )
        ]
