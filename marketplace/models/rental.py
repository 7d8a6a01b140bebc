"""The contract: quote, rental, and what happened to it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.base import PublicObject
from marketplace.models.listing import Offer, PriceVersion, Template
from marketplace.models.organization import Organization, Project, User


class Quote(PublicObject):
    """An immutable all-in price for ten minutes, good for one rental."""

    kind = "quote"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="quotes")
    offer = models.ForeignKey(Offer, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="+")
    gpus = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    interruptible = models.BooleanField(db_default=False, default=False)
    price_micro_h = models.BigIntegerField()  # for all GPUs
    provider_micro_h = models.BigIntegerField()
    # A new volume that was asked for along, and what a GiB of it costs a month.
    volume_gib = models.PositiveIntegerField(db_default=0, default=0)
    disk_price_micro_gib_month = models.BigIntegerField(db_default=0, default=0)
    components = models.JSONField()
    # When the owner takes the cards back, as the offer said when the quote was made.
    contract_ends_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)


class Rental(PublicObject):
    """Who, what was ordered, at which price, and what is wanted now.

    ``state`` is what the API shows; it is written by rentals/start, rentals/stop and
    rentals/follow only.
    """

    kind = "rental"

    class State(models.TextChoices):
        REQUESTED = "requested"
        QUEUED = "queued"
        PROVISIONING = "provisioning"
        PULLING = "pulling"
        STARTING = "starting"
        RUNNING = "running"
        DEGRADED = "degraded"
        UNREACHABLE = "unreachable"
        INTERRUPTING = "interrupting"
        STOPPING = "stopping"
        STOPPED = "stopped"
        MIGRATING = "migrating"
        FAILED = "failed"
        TERMINATING = "terminating"
        TERMINATED = "terminated"

    class Desired(models.TextChoices):
        RUNNING = "running"
        STOPPED = "stopped"
        TERMINATED = "terminated"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="rentals")
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.PROTECT, related_name="rentals"
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    labels = models.JSONField(default=dict, blank=True)

    offer = models.ForeignKey(Offer, on_delete=models.PROTECT, related_name="rentals")
    quote = models.OneToOneField(
        Quote, null=True, blank=True, on_delete=models.PROTECT, related_name="rental"
    )
    template = models.ForeignKey(
        Template, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    image = models.CharField(max_length=400)
    # Which stored secrets went into it, by variable: {"HF_TOKEN": "sec_…"}. Never a value.
    secrets = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), blank=True
    )
    registry_credential_ref = models.UUIDField(null=True, blank=True)  # may be deleted since
    accelerator = models.CharField(max_length=60)
    gpus = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    currency = models.CharField(max_length=3, default="USD")
    price_micro_h = models.BigIntegerField()  # for all GPUs
    provider_micro_h = models.BigIntegerField()
    ssh_keys = ArrayField(models.TextField(), default=list, blank=True)
    ssh = models.BooleanField(default=True)
    # Those that have names, in full (accounts/ports.py).
    ports = models.JSONField(
        default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    expires_at = models.DateTimeField(null=True, blank=True)  # empty: no_limit was ordered
    failover = models.BooleanField(db_default=False)  # go on elsewhere when the host is lost
    locked = models.BooleanField(db_default=False)  # its people may not stop or end it
    # Stopped when its cards did nothing for so long; empty: never.
    idle_stop_minutes = models.PositiveIntegerField(null=True, blank=True)
    # Cheaper, and orders at the full price may take its cards after a notice: for life.
    interruptible = models.BooleanField(db_default=False, default=False)

    # What runs, with its secrets, sealed for this rental: it is placed again with the same.
    order_sealed = models.BinaryField(null=True)
    # Placements since it last ran, and the nodes that failed it: they are not tried again.
    attempts = models.PositiveIntegerField(db_default=0)
    tried_nodes = ArrayField(models.UUIDField(), null=True, blank=True)
    # In the queue: since when, until when at most, and for what if it never was placed
    # ({"requirement", "needs", "max_price_micro_h", "max_seconds"}).
    queued_at = models.DateTimeField(null=True, blank=True)
    queue_until = models.DateTimeField(null=True, blank=True)
    # How long it may wait whenever it needs cards: at first, started again, on another host.
    queue_seconds = models.PositiveIntegerField(null=True, blank=True)
    wanted = models.JSONField(null=True, blank=True)
    # While it waits: the node where interruptible rentals make room for it. Nobody else is placed
    # there meanwhile.
    promised_node = models.UUIDField(null=True, blank=True)
    # A notice was given: when it takes effect. ``reason`` says why.
    interrupt_at = models.DateTimeField(null=True, blank=True)
    # When the owner takes these cards back: fixed with the placement, whatever is decided later.
    contract_ends_at = models.DateTimeField(null=True, blank=True)
    # When the host is taken down, as announced.
    maintenance_at = models.DateTimeField(null=True, blank=True)
    # Failed, yet its pod was not observed absent: nothing may be started until then.
    leaving = models.BooleanField(db_default=False)

    instance_ref = models.UUIDField(null=True)  # the live or last instance
    desired_state = models.CharField(max_length=10, choices=Desired.choices)
    state = models.CharField(max_length=12, choices=State.choices)
    reason = models.CharField(max_length=40)
    state_since = models.DateTimeField(db_default=AppNow())
    ready_at = models.DateTimeField(null=True, blank=True)  # first time it was proven ready
    stop_ack_at = models.DateTimeField(null=True, blank=True)  # request time of stop or terminate
    ended_at = models.DateTimeField(null=True, blank=True)
    # Every proven second charged and the hold given back; set after the end, by the charging loop.
    settled_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    state__in=[
                        "requested",
                        "queued",
                        "provisioning",
                        "pulling",
                        "starting",
                        "running",
                        "degraded",
                        "unreachable",
                        "interrupting",
                        "stopping",
                        "stopped",
                        "migrating",
                        "failed",
                        "terminating",
                        "terminated",
                    ]
                ),
                name="rental_state_known",
            ),
            models.CheckConstraint(
                condition=models.Q(ended_at__isnull=False) | ~models.Q(state="terminated"),
                name="terminated_rental_has_end",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="rental_by_organization"),
            models.Index(
                fields=["expires_at"],
                name="rental_by_end",
                condition=models.Q(expires_at__isnull=False, ended_at__isnull=True),
            ),
            models.Index(
                fields=["organization"],
                name="rental_open",  # what counts against quota and spend limit
                condition=models.Q(ended_at__isnull=True),
            ),
            models.Index(
                fields=["id"],
                name="rental_to_settle",
                condition=models.Q(
                    settled_at__isnull=True,
                    state__in=["failed", "queued", "stopped", "terminated"],
                ),
            ),
            models.Index(
                fields=["queued_at", "id"],
                name="rental_waiting",
                condition=models.Q(state__in=["requested", "queued"]),
            ),
            models.Index(
                fields=["state", "state_since"],
                name="rental_moving",  # should leave its state by itself: watched by people on call
                condition=models.Q(
                    state__in=[
                        "provisioning",
                        "pulling",
                        "starting",
                        "interrupting",
                        "stopping",
                        "migrating",
                        "terminating",
                    ]
                ),
            ),
            models.Index(
                fields=["id"],
                name="rental_watched_for_idle",
                condition=models.Q(idle_stop_minutes__isnull=False, state="running"),
            ),
            models.Index(
                fields=["contract_ends_at"],
                name="rental_by_contract_end",
                condition=models.Q(contract_ends_at__isnull=False, ended_at__isnull=True),
            ),
            models.Index(
                fields=["maintenance_at"],
                name="rental_by_maintenance",
                condition=models.Q(maintenance_at__isnull=False, ended_at__isnull=True),
            ),
            models.Index(
                fields=["promised_node"],
                name="rental_promised",
                condition=models.Q(state="queued", promised_node__isnull=False),
            ),
            models.Index(
                fields=["offer", "id"],
                name="rental_interruptible",  # who may be asked to make room
                condition=models.Q(
                    interruptible=True, state__in=["running", "degraded", "interrupting"]
                ),
            ),
            GinIndex(fields=["labels"], name="rental_by_label"),
        ]


class RentalEvent(models.Model):
    """One step in the life of a rental, in order; what the timeline and the API show."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rental = models.ForeignKey(Rental, on_delete=models.PROTECT, related_name="events")
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    state = models.CharField(max_length=12, choices=Rental.State.choices)
    reason = models.CharField(max_length=40)
    actor = models.CharField(max_length=10)  # renter, platform, host, funds, admin
    text = models.CharField(max_length=500)
    evidence = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rental", "seq"], name="rental_event_once")]
