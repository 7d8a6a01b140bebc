"""The two queues towards Stripe: intents going out, events coming in, and the poller's cursor.

A claim moves ``next_at`` into the future and raises ``fence``: until then the row is the
claimant's, a dead claimant's row comes back by itself, and a late one no longer owns it.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from kernel.clock import AppNow
from kernel.ids import new_id


class CallKind(models.TextChoices):
    CUSTOMER = "customer"
    CUSTOMER_TAX = "customer_tax"
    TAX_RATE = "tax_rate"
    TOPUP_TAX = "topup_tax"
    TAX_TRANSACTION = "tax_transaction"
    TAX_REVERSAL = "tax_reversal"
    TOPUP_CHECKOUT = "topup_checkout"
    TOPUP_CHARGE = "topup_charge"
    CARD_SETUP = "card_setup"
    INVOICE_CREATE = "invoice_create"
    INVOICE_LINE = "invoice_line"
    INVOICE_TAX = "invoice_tax"
    INVOICE_FINALIZE = "invoice_finalize"
    INVOICE_PAY = "invoice_pay"
    INVOICE_WRITE_OFF = "invoice_write_off"
    METER = "meter"
    METER_EVENT = "meter_event"
    REFUND = "refund"
    CREDIT_NOTE = "credit_note"
    DISPUTE_EVIDENCE = "dispute_evidence"
    PORTAL_SESSION = "portal_session"
    ACCOUNT = "account"
    ACCOUNT_LINK = "account_link"
    TRANSFER = "transfer"
    TRANSFER_REVERSAL = "transfer_reversal"


class CallState(models.TextChoices):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"  # Stripe refused for good; the subject says so to people
    STUCK = "stuck"  # outcome unknown and no safe way left to find out: a person looks


class StripeCall(models.Model):
    """One intent, committed with the business change that wants it and executed afterwards.

    ``key`` names the intent; the idempotency key sent is the same with the attempt appended. An
    attempt is given up for a new one only after a look at Stripe found nothing of it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=20, choices=CallKind.choices)
    key = models.CharField(max_length=200, unique=True)
    org_ref = models.UUIDField(null=True, db_index=True)
    subject = models.CharField(max_length=100)  # UUID of the row, or the card type of a meter
    state = models.CharField(max_length=10, choices=CallState.choices, default=CallState.PENDING)
    attempt = models.PositiveIntegerField(default=1)
    first_sent_at = models.DateTimeField(null=True)  # of the present attempt
    must_look = models.BooleanField(default=False)
    tries = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(db_default=AppNow())
    fence = models.BigIntegerField(default=0)
    stripe_id = models.CharField(max_length=255, null=True)
    error_code = models.CharField(max_length=100, default="", blank=True)
    error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=AppNow())
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="pending"), name="billing_call_due"),
            # A handful at most, among all intents there ever were: each waits for a person.
            models.Index(fields=["id"], condition=Q(state="stuck"), name="billing_call_stuck"),
        ]

    def __str__(self) -> str:
        return self.key


class EventOutcome(models.TextChoices):
    APPLIED = "applied"
    IGNORED = "ignored"  # a type we do not use, or an object that is not ours
    ORPHAN = "orphan"  # its object is gone or not ours to read: a person looks
    # Carries our metadata but names a row that does not exist: listed, a person decides.
    UNKNOWN_OBJECT = "unknown_object"


class StripeEvent(models.Model):
    """One event as it came, by webhook or by poll; the same id is stored once."""

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=255, default="", blank=True)
    created = models.DateTimeField(null=True)
    raw = models.TextField()
    source = models.CharField(max_length=10, choices=[("webhook", "webhook"), ("poll", "poll")])
    received_at = models.DateTimeField(db_default=AppNow())
    applied_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, choices=EventOutcome.choices, null=True)
    tries = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(db_default=AppNow())
    fence = models.BigIntegerField(default=0)
    error = models.TextField(default="", blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["next_at"], condition=Q(applied_at__isnull=True), name="billing_event_due"
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(applied_at__isnull=True, outcome__isnull=True)
                | Q(applied_at__isnull=False, outcome__isnull=False),
                name="billing_event_outcome",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class StripeCursor(models.Model):
    """How far the poller has read Stripe's event list; one row."""

    name = models.CharField(primary_key=True, max_length=20)
    read_to = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.read_to}"
