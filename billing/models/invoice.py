"""Post-paid invoices: fixed here first, then written at Stripe step by step and verified.

Which usage lines an invoice covers is a span of sequence numbers per rental; the database refuses
two spans of one rental that overlap, so a charge is invoiced once whoever runs the close.
"""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import IntegerRangeField, RangeBoundary, RangeOperators
from django.db import models
from django.db.models import F, Func, Q

from billing.contracts import InvoiceState
from billing.models.meter import RentalMeter
from billing.models.posting import Transaction
from billing.models.tax import TaxProfile
from kernel.clock import AppNow
from kernel.ids import new_id

STATES = [(state.value, state.value) for state in InvoiceState]


class Int4Range(Func):
    function = "INT4RANGE"
    output_field = IntegerRangeField()


class Invoice(models.Model):
    """total_minor is in cents; the part of a cent left over stays in the tenant account.

    carried_in_micro came from the invoice before, carried_micro goes to the next one.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField(db_index=True)
    state = models.CharField(max_length=14, choices=STATES, default=InvoiceState.DRAFT)
    currency = models.CharField(max_length=3)
    period_from = models.DateTimeField()
    period_to = models.DateTimeField()
    total_minor = models.BigIntegerField()  # tax included
    tax_micro = models.BigIntegerField(default=0, db_default=0)
    # Fixed with the lines: whose tax ids it shows, and why it is taxed as it is.
    tax_profile = models.ForeignKey(
        TaxProfile, null=True, on_delete=models.PROTECT, related_name="+"
    )
    tax_reason = models.CharField(max_length=50, default="", db_default="", blank=True)
    # The sum of its credit notes that did not fail, kept by a trigger on them.
    noted_micro = models.BigIntegerField(db_default=0)
    carried_in_micro = models.IntegerField()
    carried_micro = models.IntegerField()
    actor = models.CharField(max_length=100)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    number = models.CharField(max_length=100, null=True)
    hosted_url = models.TextField(null=True)
    alarm = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=AppNow())
    finalized_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    written_off_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # Who is reminded, stopped and refused: a handful of rows among all invoices.
            models.Index(
                fields=["finalized_at"],
                condition=Q(state__in=[InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE]),
                name="billing_invoice_unpaid",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(total_minor__gte=1)
                & Q(carried_in_micro__range=(0, 9_999), carried_micro__range=(0, 9_999)),
                name="billing_invoice_amounts",
            ),
            models.CheckConstraint(
                condition=Q(noted_micro__gte=0, noted_micro__lte=F("total_minor") * 10_000),
                name="billing_invoice_noted",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in InvoiceState]),
                name="billing_invoice_state",
            ),
        ]

    def __str__(self) -> str:
        return self.number or str(self.id)


class InvoiceLine(models.Model):
    """One card type, or disks, at one price. quantity: GPU-hours, or GiB-hours, as text, exact to
    the second."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    accelerator = models.CharField(max_length=100)
    text = models.CharField(max_length=300)
    gpu_seconds = models.BigIntegerField()
    quantity = models.CharField(max_length=40)
    amount_micro = models.BigIntegerField()
    amount_minor = models.BigIntegerField()
    tax_ppm = models.IntegerField(default=0, db_default=0)
    tax_micro = models.BigIntegerField(default=0, db_default=0)
    tax_minor = models.BigIntegerField(default=0, db_default=0)
    stripe_id = models.CharField(max_length=255, null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="billing_invoiceline_key")
        ]

    def __str__(self) -> str:
        return self.text


class InvoiceCredit(models.Model):
    """A transaction that gave something back and is on an invoice: once, whoever runs the close."""

    txn = models.OneToOneField(
        Transaction, on_delete=models.PROTECT, primary_key=True, related_name="+"
    )
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="credits")
    amount_micro = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.amount_micro} on {self.line_id}"


class InvoiceSpan(models.Model):
    """The usage lines first_seq..last_seq of one rental that an invoice line covers."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="spans")
    meter = models.ForeignKey(
        RentalMeter, on_delete=models.PROTECT, related_name="+", db_column="rental_ref"
    )
    first_seq = models.IntegerField()
    last_seq = models.IntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(last_seq__gte=F("first_seq")), name="billing_invoicespan_order"
            ),
            ExclusionConstraint(
                name="billing_invoicespan_once",
                expressions=[
                    ("meter", RangeOperators.EQUAL),
                    (
                        Int4Range("first_seq", "last_seq", RangeBoundary(inclusive_upper=True)),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.first_seq}-{self.last_seq}"
