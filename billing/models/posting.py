"""Transactions and their postings: append-only, refused by the database when unbalanced.

All postings of a transaction go in one INSERT; the trigger of migration 0002 sums them per
transaction and currency and moves the stored balances in the same statement.
"""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from billing.models.account import Account
from kernel.clock import AppNow
from kernel.ids import new_id


class TransactionKind(models.TextChoices):
    """The closed list; docs/ledger.md gives the legs of each."""

    TOPUP = "topup"
    STRIPE_FEE = "stripe_fee"
    HOLD = "hold"
    HOLD_REFILL = "hold_refill"
    HOLD_RELEASE = "hold_release"
    USAGE = "usage"
    DISK_USAGE = "disk_usage"
    OUTAGE_CREDIT = "outage_credit"
    PROVIDER_GAP = "provider_gap"
    INCIDENT_CREDIT = "incident_credit"
    INVOICE = "invoice"
    INVOICE_PAYMENT = "invoice_payment"
    INVOICE_VOID = "invoice_void"
    CREDIT_NOTE = "credit_note"
    BAD_DEBT = "bad_debt"
    REFUND = "refund"
    REFUND_RETURNED = "refund_returned"
    DISPUTE = "dispute"
    DISPUTE_FEE = "dispute_fee"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    PROMO_GRANT = "promo_grant"
    PROMO_EXPIRED = "promo_expired"
    ADJUSTMENT = "adjustment"
    MATURITY = "maturity"
    CLAWBACK = "clawback"
    PAYOUT = "payout"
    PAYOUT_SENT = "payout_sent"
    PAYOUT_RETURNED = "payout_returned"


class CauseType(models.TextChoices):
    """What made a transaction: the table in which ``cause_id`` is found."""

    PAYMENT = "payment"
    RENTAL = "rental"
    USAGE = "usage"
    DISK_USAGE = "disk_usage"
    OUTAGE = "outage"
    INCIDENT = "incident"
    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"
    REFUND = "refund"
    DISPUTE = "dispute"
    PROMO = "promo"
    ADJUSTMENT = "adjustment"
    MATURITY = "maturity"
    PAYOUT = "payout"


class Transaction(models.Model):
    """One movement of money with exactly one cause."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=20, choices=TransactionKind.choices)
    cause_type = models.CharField(max_length=20, choices=CauseType.choices)
    cause_id = models.UUIDField()
    # A rental that was stopped and starts again holds and releases anew: the how-manieth time.
    round = models.PositiveIntegerField(db_default=1)
    linked = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [
            # The journal reads by time. Rows lie in the order of their time, so a block index is
            # enough, and costs what writes them nothing that could be measured.
            BrinIndex(fields=["at"], autosummarize=True, name="billing_transaction_at"),
            # The unique constraint below finds all other moves of a rental's hold.
            models.Index(
                fields=["cause_id"],
                condition=Q(kind=TransactionKind.HOLD_REFILL),
                name="billing_refill_of",
            ),
        ]
        constraints = [
            # A hold is refilled many times for one rental; all else happens once per cause and
            # round.
            models.UniqueConstraint(
                fields=["kind", "cause_type", "cause_id", "round"],
                condition=~Q(kind=TransactionKind.HOLD_REFILL),
                name="billing_transaction_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=TransactionKind.values), name="billing_transaction_kind"
            ),
            models.CheckConstraint(
                condition=Q(cause_type__in=CauseType.values), name="billing_transaction_cause"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.cause_type} {self.cause_id}"


class Posting(models.Model):
    """One leg. The key is a plain sequence: nothing ever reads it as a cursor, it only names."""

    id = models.BigAutoField(primary_key=True)
    txn = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="postings")
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="postings", db_index=False
    )
    amount_micro = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        indexes = [
            # A statement pages an account's transactions newest first; sums read it as well.
            models.Index(
                fields=["account", "-txn"], include=["amount_micro"], name="billing_posting_account"
            )
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(amount_micro=0), name="billing_posting_not_zero")
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} {self.currency} on {self.account_id}"
