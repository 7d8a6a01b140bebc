"""Accounts of the ledger: one row per kind, owner and currency.

Signs are the owner's: what a tenant or provider has with us is positive, our own assets
(stripe_cash, invoice_ar) are negative. Only tenant accounts carry a stored balance: a platform-wide
row that every tick updates would serialise the whole system, so those are summed when asked.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from kernel.clock import AppNow
from kernel.ids import new_id


class AccountKind(models.TextChoices):
    """Every kind the ledger knows; later issues post to those that nothing posts to yet."""

    STRIPE_CASH = "stripe_cash"
    STRIPE_FEES = "stripe_fees"
    TENANT = "tenant"
    TENANT_HOLD = "tenant_hold"
    TENANT_PROMO = "tenant_promo"
    INVOICE_AR = "invoice_ar"
    PROVIDER_PENDING = "provider_pending"
    PROVIDER_DUE = "provider_due"
    PROVIDER_CLEARING = "provider_clearing"
    REVENUE = "revenue"
    TAX_PAYABLE = "tax_payable"
    PROMO_EXPENSE = "promo_expense"
    OUTAGE_CREDIT = "outage_credit"
    DISPUTE_SUSPENSE = "dispute_suspense"
    BAD_DEBT = "bad_debt"
    PLATFORM_COST = "platform_cost"


OWNED = (
    AccountKind.TENANT,
    AccountKind.TENANT_HOLD,
    AccountKind.TENANT_PROMO,
    AccountKind.INVOICE_AR,
    AccountKind.PROVIDER_PENDING,
    AccountKind.PROVIDER_DUE,
)
STORED = (AccountKind.TENANT, AccountKind.TENANT_HOLD)


class Account(models.Model):
    """One account. ``balance_micro`` is written by the posting trigger alone.

    The floor is how far the balance may fall: 0 for prepaid, -credit_limit for post-paid, raised
    by what is invoiced and not yet paid, so that an unpaid invoice keeps using up the limit.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=20, choices=AccountKind.choices)
    owner_ref = models.UUIDField(null=True)
    currency = models.CharField(max_length=3)
    balance_micro = models.BigIntegerField(null=True)
    credit_limit_micro = models.BigIntegerField(null=True)
    receivable_micro = models.BigIntegerField(null=True)
    floor_micro = models.GeneratedField(
        expression=F("receivable_micro") - F("credit_limit_micro"),
        output_field=models.BigIntegerField(null=True),
        db_persist=True,
    )
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "owner_ref", "currency"],
                nulls_distinct=False,
                name="billing_account_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=AccountKind.values), name="billing_account_kind"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=OWNED, owner_ref__isnull=False)
                | (~Q(kind__in=OWNED) & Q(owner_ref__isnull=True)),
                name="billing_account_owner",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=STORED,
                    balance_micro__isnull=False,
                    credit_limit_micro__isnull=False,
                    receivable_micro__isnull=False,
                )
                | (
                    ~Q(kind__in=STORED)
                    & Q(
                        balance_micro__isnull=True,
                        credit_limit_micro__isnull=True,
                        receivable_micro__isnull=True,
                    )
                ),
                name="billing_account_stored",
            ),
            models.CheckConstraint(
                condition=Q(balance_micro__isnull=True) | Q(balance_micro__gte=F("floor_micro")),
                name="billing_account_floor",
            ),
            models.CheckConstraint(
                condition=Q(credit_limit_micro__isnull=True)
                | Q(credit_limit_micro__gte=0, receivable_micro__gte=0),
                name="billing_account_limit",
            ),
            models.CheckConstraint(
                condition=~Q(kind=AccountKind.TENANT_HOLD)
                | Q(credit_limit_micro=0, receivable_micro=0),
                name="billing_account_hold_floor",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner_ref}" if self.owner_ref else self.kind
