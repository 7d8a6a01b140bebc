"""Outgoing webhooks: where to send, what happened, and each sending until it succeeded or ended."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from kernel.clock import AppNow
from kernel.ids import new_id, public
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization


class WebhookEndpoint(PublicObject):
    """A receiver of an organization: its address, what it wants, its sealed secrets, its health.

    A deleted one keeps its row for the sendings that point to it until those are forgotten.
    """

    kind = "webhook"

    class State(models.TextChoices):
        ENABLED = "enabled"
        DISABLED = "disabled"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    url = models.CharField(max_length=500)
    event_types = ArrayField(models.CharField(max_length=40))
    secret_sealed = models.BinaryField()
    # Signs as well until previous_until, so that a receiver may change over without a gap.
    previous_sealed = models.BinaryField(null=True)
    previous_until = models.DateTimeField(null=True, blank=True)

    state = models.CharField(max_length=10, choices=State.choices, default=State.ENABLED)
    reason = models.CharField(max_length=40)
    state_since = models.DateTimeField(db_default=AppNow())
    deleted_at = models.DateTimeField(null=True, blank=True)

    # Failed attempts since the last that succeeded, the first of them, and until when it rests.
    failures = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    rest_until = models.DateTimeField(null=True, blank=True)
    # Fails, takes long or was never tried: it gets one sending at a time, on threads of its kind.
    slow = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=["enabled", "disabled"]), name="webhook_state_known"
            )
        ]
        indexes = [
            models.Index(
                fields=["organization"],
                name="webhook_listening",
                condition=models.Q(state="enabled", deleted_at__isnull=True),
            ),
            models.Index(
                fields=["failing_since"],
                name="webhook_failing",
                condition=models.Q(state="enabled", failing_since__isnull=False),
            ),
        ]


class WebhookEvent(models.Model):
    """A fact worth telling, written in the fact's own transaction; once per type and cause.

    ``body`` is the text that goes out, so every attempt sends the same bytes.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_events"
    )
    type = models.CharField(max_length=40)
    cause = models.CharField(max_length=120)
    body = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "type", "cause"], name="webhook_event_once_per_cause"
            )
        ]
        indexes = [models.Index(fields=["created_at"], name="webhook_event_age")]

    @property
    def public_id(self) -> str:
        return public("event", self.id)


class WebhookDelivery(models.Model):
    """One event for one endpoint: attempted until it succeeds or its time is over.

    Attempts, code, duration and answer are those of the present order; sending again starts anew.
    """

    kind = "delivery"

    class State(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField()
    give_up_at = models.DateTimeField()
    claim_token = models.UUIDField(null=True)
    claim_until = models.DateTimeField(null=True)

    last_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)  # why the last attempt failed
    response_code = models.PositiveSmallIntegerField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    response_body = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="webhook_delivery_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=["pending", "succeeded", "failed"]),
                name="webhook_delivery_state_known",
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_list"),
            models.Index(
                fields=["endpoint", "next_at"],
                name="webhook_delivery_due",
                condition=models.Q(state="pending"),
            ),
            models.Index(
                fields=["give_up_at"],
                name="webhook_delivery_over",
                condition=models.Q(state="pending"),
            ),
            models.Index(
                fields=["endpoint"],
                name="webhook_delivery_claimed",
                condition=models.Q(claim_token__isnull=False),
            ),
        ]

    @property
    def public_id(self) -> str:
        return public(self.kind, self.id)
