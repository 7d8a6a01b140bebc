"""Billing for staff: all to read, nothing to change. Money moves by actions, never by edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest

from billing import models

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _TabularInline = admin.TabularInline[Any, Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _TabularInline = admin.TabularInline


class ReadOnly(_ModelAdmin):
    """Lists and shows; no add, no change, no delete."""

    show_full_result_count = False  # counting a large table costs more than the page

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyRows(_TabularInline):
    """Rows below their owner, as read-only as all else."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PostingLegs(ReadOnlyRows):
    model = models.Posting
    fields: ClassVar = ["account", "amount_micro", "currency"]


class InvoiceLines(ReadOnlyRows):
    model = models.InvoiceLine
    fields: ClassVar = ["position", "text", "quantity", "amount_micro", "amount_minor", "stripe_id"]


@admin.register(models.Account)
class AccountAdmin(ReadOnly):
    list_display = ("kind", "owner_ref", "currency", "balance_micro", "floor_micro")
    list_filter = ("kind",)
    search_fields = ("owner_ref",)


@admin.register(models.Transaction)
class TransactionAdmin(ReadOnly):
    list_display = ("id", "kind", "cause_type", "cause_id", "at")
    list_filter = ("kind",)
    search_fields = ("id", "cause_id")
    inlines = (PostingLegs,)


@admin.register(models.RentalMeter)
class RentalMeterAdmin(ReadOnly):
    list_display = (
        "rental_ref",
        "kind",
        "org_ref",
        "billable_seconds",
        "charged_micro",
        "held_micro",
        "paid_until",
        "ended_at",
    )
    search_fields = ("rental_ref", "org_ref")


@admin.register(models.UsageLine)
class UsageLineAdmin(ReadOnly):
    list_display = ("meter_id", "seq", "from_at", "to_at", "amount_micro", "provider_micro")
    search_fields = ("meter__rental_ref",)


@admin.register(models.Invoice)
class InvoiceAdmin(ReadOnly):
    list_display = ("id", "org_ref", "number", "state", "total_minor", "period_to", "alarm")
    list_filter = ("state",)
    search_fields = ("id", "org_ref", "number")
    inlines = (InvoiceLines,)


@admin.register(models.Customer)
class CustomerAdmin(ReadOnly):
    list_display = ("org_ref", "name", "email", "stripe_id", "postpaid_since")
    search_fields = ("org_ref", "name", "email", "stripe_id")


@admin.register(models.TopUp)
class TopUpAdmin(ReadOnly):
    list_display = ("id", "customer_id", "amount_micro", "state", "failure", "created_at")
    list_filter = ("state",)
    search_fields = ("id", "customer__org_ref")


@admin.register(models.Payment)
class PaymentAdmin(ReadOnly):
    list_display = ("stripe_id", "org_ref", "kind", "amount_minor", "state", "txn_id")
    list_filter = ("kind", "state")
    search_fields = ("stripe_id", "org_ref")


@admin.register(models.RefundOrder)
class RefundOrderAdmin(ReadOnly):
    list_display = ("id", "org_ref", "amount_micro", "ordered_by", "needs_second", "approved_by")
    search_fields = ("id", "org_ref")


@admin.register(models.Refund)
class RefundAdmin(ReadOnly):
    list_display = ("id", "payment", "order_id", "amount_minor", "state", "at_stripe", "failure")
    list_filter = ("state",)
    search_fields = ("id", "stripe_id", "payment__stripe_id")


@admin.register(models.Dispute)
class DisputeAdmin(ReadOnly):
    list_display = ("stripe_id", "org_ref", "state", "amount_minor", "due_by", "submitted_at")
    list_filter = ("state",)
    search_fields = ("id", "stripe_id", "org_ref")


@admin.register(models.CreditNote)
class CreditNoteAdmin(ReadOnly):
    list_display = (
        "id",
        "invoice",
        "amount_micro",
        "state",
        "ordered_by",
        "approved_by",
        "failure",
    )
    list_filter = ("state",)
    search_fields = ("id", "org_ref", "stripe_id")


@admin.register(models.PromoGrant)
class PromoGrantAdmin(ReadOnly):
    list_display = ("org_ref", "amount_micro", "expires_at", "closed_at", "ordered_by")


@admin.register(models.Adjustment)
class AdjustmentAdmin(ReadOnly):
    list_display = ("id", "org_ref", "amount_micro", "against", "ordered_by", "approved_by")
    search_fields = ("id", "org_ref")


@admin.register(models.StripeCall)
class StripeCallAdmin(ReadOnly):
    list_display = ("key", "kind", "state", "attempt", "tries", "next_at", "error_code", "error")
    list_filter = ("state", "kind")
    search_fields = ("key", "org_ref")


@admin.register(models.StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = ("id", "type", "source", "received_at", "applied_at", "outcome", "error")
    list_filter = ("outcome", "source", "type")
    search_fields = ("id", "object_id")


@admin.register(models.MeterBatch)
class MeterBatchAdmin(ReadOnly):
    list_display = ("identifier", "gpu_seconds", "at", "sent_at")
    search_fields = ("org_ref", "identifier")


@admin.register(models.Break)
class BreakAdmin(ReadOnly):
    list_display = ("rule", "subject", "text", "owner", "first_seen_at", "resolved_at")
    list_filter = ("rule", "name")
    search_fields = ("subject", "text")


@admin.register(models.UnknownObject)
class UnknownObjectAdmin(ReadOnly):
    list_display = ("stripe_id", "type", "status", "amount_minor", "currency", "first_seen_at")
    list_filter = ("type",)
    search_fields = ("stripe_id", "customer")


@admin.register(models.Maturity)
class MaturityAdmin(ReadOnly):
    list_display = ("provider_ref", "up_to", "balance_micro", "blocked_micro", "amount_micro")
    search_fields = ("provider_ref",)


@admin.register(models.PayoutAccount)
class PayoutAccountAdmin(ReadOnly):
    list_display = ("provider_ref", "name", "state", "stripe_id", "held_until", "seen_at")
    list_filter = ("state",)
    search_fields = ("provider_ref", "name", "stripe_id")


class PayoutLines(ReadOnlyRows):
    model = models.PayoutLine
    fields: ClassVar = ["provider_ref", "state", "amount_micro", "stripe_id", "reason"]


@admin.register(models.PayoutRun)
class PayoutRunAdmin(ReadOnly):
    list_display = ("id", "state", "week", "actor", "total_micro", "started_at")
    list_filter = ("state",)
    inlines = (PayoutLines,)
