"""Customers, saved cards, top-ups and payments: our side of what happens at Stripe."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.contracts import PaymentState
from billing.models.invoice import Invoice
from billing.models.posting import Transaction
from kernel.clock import AppNow
from kernel.ids import new_id

STATES = [(state.value, state.value) for state in PaymentState]


class Customer(models.Model):
    """An organization as Stripe's customer; ``stripe_id`` is known once the intent was executed."""

    org_ref = models.UUIDField(primary_key=True)
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=200)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    # A credit limit starts the post-paid life: charges from then on are invoiced.
    postpaid_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=AppNow())

    def __str__(self) -> str:
        return self.name


class PaymentMethod(models.Model):
    """A card saved at Stripe. The number never comes here; the newest active one is the default."""

    ACTIVE = "active"
    DETACHED = "detached"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="methods", db_column="org_ref"
    )
    stripe_id = models.CharField(max_length=255, unique=True)
    brand = models.CharField(max_length=50)
    last4 = models.CharField(max_length=4)
    exp_month = models.IntegerField()
    exp_year = models.IntegerField()
    # The same for one card wherever it is saved: what a card is counted by.
    fingerprint = models.CharField(max_length=64, default="", db_default="", blank=True)
    state = models.CharField(
        max_length=10, choices=[(ACTIVE, ACTIVE), (DETACHED, DETACHED)], default=ACTIVE
    )
    created_at = models.DateTimeField(db_default=AppNow())

    def __str__(self) -> str:
        return f"{self.brand} {self.last4}"


class CardSetup(models.Model):
    """One visit to Stripe's page that saves a card."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_column="org_ref"
    )
    state = models.CharField(max_length=10, choices=STATES, default=PaymentState.PENDING)
    return_url = models.TextField()
    url = models.TextField(null=True)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    method = models.ForeignKey(PaymentMethod, null=True, on_delete=models.PROTECT, related_name="+")
    failure = models.CharField(max_length=500, null=True)
    ip = models.GenericIPAddressField(null=True)  # who asked, to bound attempts
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [
            models.Index(
                fields=["ip", "created_at"],
                condition=Q(ip__isnull=False),
                name="billing_cardsetup_ip",
            )
        ]

    def __str__(self) -> str:
        return f"card setup {self.id}"


class PortalSession(models.Model):
    """One visit to Stripe's own pages for cards and invoices. ``url`` lets whoever has it in."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="+", db_column="org_ref"
    )
    return_url = models.TextField()
    url = models.TextField(null=True)
    opened_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=500, null=True)
    created_at = models.DateTimeField(db_default=AppNow())

    def __str__(self) -> str:
        return f"portal session {self.id}"


class TopUp(models.Model):
    """A wish to add credit: on Stripe's page, or off-session with a saved card (``method``)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="topups", db_column="org_ref"
    )
    amount_micro = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=10, choices=STATES, default=PaymentState.PENDING)
    return_url = models.TextField()
    method = models.ForeignKey(PaymentMethod, null=True, on_delete=models.PROTECT, related_name="+")
    checkout_url = models.TextField(null=True)
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    failure = models.CharField(max_length=500, null=True)
    failure_code = models.CharField(max_length=100, default="", db_default="", blank=True)
    # Tax is added to amount_micro. On Stripe's page it is known when it is paid; a saved card is
    # charged what the calculation says, which becomes a tax transaction then.
    taxed = models.BooleanField(default=False, db_default=False)
    tax_minor = models.BigIntegerField(null=True)
    tax_calculation = models.CharField(max_length=255, null=True)
    tax_transaction = models.CharField(max_length=255, null=True)
    auto = models.BooleanField(default=False, db_default=False)  # by the standing order
    ip = models.GenericIPAddressField(null=True)  # who asked, to bound attempts
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro__gte=10_000), name="billing_topup_amount"
            ),
            # Whatever a loop believes: the next one waits until this one is settled.
            models.UniqueConstraint(
                fields=["customer"],
                condition=Q(auto=True, state__in=[PaymentState.PENDING, PaymentState.OPEN]),
                name="billing_topup_auto_open",
            ),
        ]
        indexes = [
            models.Index(
                fields=["ip", "created_at"], condition=Q(ip__isnull=False), name="billing_topup_ip"
            )
        ]

    @property
    def gross_micro(self) -> int:
        """What the payer is asked for: the credit, and the tax as far as it is known."""
        return self.amount_micro + (self.tax_minor or 0) * 10_000

    def __str__(self) -> str:
        return f"top-up {self.id}"


class Payment(models.Model):
    """One charge at Stripe: a PaymentIntent of ours, or an invoice paid another way.

    Its row is the lock and its id the cause under which its money is booked exactly once.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    org_ref = models.UUIDField(db_index=True)
    kind = models.CharField(max_length=10, choices=[("topup", "topup"), ("invoice", "invoice")])
    topup = models.ForeignKey(TopUp, null=True, on_delete=models.PROTECT, related_name="payments")
    invoice = models.ForeignKey(
        Invoice, null=True, on_delete=models.PROTECT, related_name="payments"
    )
    stripe_id = models.CharField(max_length=255, unique=True)
    amount_minor = models.BigIntegerField()  # tax included
    tax_minor = models.BigIntegerField(default=0, db_default=0)
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=10, choices=STATES)
    # The sum of its refunds that did not fail, kept by a trigger on them.
    refunded_minor = models.BigIntegerField(db_default=0)
    txn = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")
    fee_txn = models.ForeignKey(Transaction, null=True, on_delete=models.PROTECT, related_name="+")
    card_brand = models.CharField(max_length=50, default="", db_default="", blank=True)
    card_last4 = models.CharField(max_length=4, default="", db_default="", blank=True)
    receipt_at = models.DateTimeField(null=True)  # its receipt was ordered
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [
            # A handful at any time: the next look for receipts takes them.
            models.Index(
                fields=["id"],
                condition=Q(txn__isnull=False, receipt_at__isnull=True),
                name="billing_payment_unreceipted",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="topup", topup__isnull=False, invoice__isnull=True)
                | Q(kind="invoice", topup__isnull=True, invoice__isnull=False),
                name="billing_payment_purpose",
            ),
            models.CheckConstraint(
                condition=Q(state=PaymentState.SUCCEEDED, txn__isnull=False)
                | (~Q(state=PaymentState.SUCCEEDED) & Q(txn__isnull=True)),
                name="billing_payment_booked",
            ),
            models.CheckConstraint(
                condition=Q(refunded_minor__gte=0, refunded_minor__lte=F("amount_minor")),
                name="billing_payment_refunded",
            ),
        ]

    def __str__(self) -> str:
        return self.stripe_id
