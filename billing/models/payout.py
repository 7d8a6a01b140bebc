"""Providers' money on its way to them: maturing, payout accounts, runs and their lines.

All of it is decided from the ledger's sums under one lock per provider (the row of its
provider_due account); these rows say what was decided, by whom, and what Stripe made of it.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.contracts.payouts import AccountState, LineState, RunState
from billing.models.posting import Transaction
from kernel.clock import AppNow
from kernel.ids import new_id


def _choices(states: type[AccountState | LineState | RunState]) -> list[tuple[str, str]]:
    return [(state.value, state.value) for state in states]


class Maturity(models.Model):
    """One move between a provider's pending and due accounts.

    amount_micro = balance_micro - blocked_micro: all that was on provider_pending, less what is
    younger than ``up_to`` or waits for review. Below zero it is a claw-back out of what is due.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    provider_ref = models.UUIDField()
    up_to = models.DateTimeField()  # use that ended by then is mature
    balance_micro = models.BigIntegerField()
    blocked_micro = models.BigIntegerField()
    amount_micro = models.BigIntegerField()
    txn = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        indexes = [
            models.Index(fields=["provider_ref", "created_at"], name="billing_maturity_of"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_micro=F("balance_micro") - F("blocked_micro"))
                & ~Q(amount_micro=0),
                name="billing_maturity_amount",
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount_micro} of {self.provider_ref}"


class ClearedRenter(models.Model):
    """A renter whose use matures for its providers: it has a settled payment of thirty days ago,
    a credit limit, or staff looked at it. Once cleared it stays so, because what has matured
    would otherwise count as blocked."""

    org_ref = models.UUIDField(primary_key=True)
    actor = models.CharField(max_length=100)  # staff:…, or platform
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(db_default=AppNow())

    def __str__(self) -> str:
        return str(self.org_ref)


class PayoutAccount(models.Model):
    """A provider as recipient at Stripe. Bank details are given on Stripe's page, never to us.

    held_until: nothing is paid before, because the account is new or was opened for a change.
    links: how many of Stripe's pages were asked for; each is its own intent.
    """

    provider_ref = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=200)
    email = models.EmailField(max_length=254)
    country = models.CharField(max_length=2)
    state = models.CharField(
        max_length=12, choices=_choices(AccountState), default=AccountState.PENDING
    )
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    requirements = models.JSONField(default=list)  # what Stripe still asks for, in its words
    failure = models.CharField(max_length=500, blank=True)
    return_url = models.TextField()
    links = models.PositiveIntegerField(default=0)
    link_url = models.TextField(null=True)
    link_expires_at = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in AccountState]),
                name="billing_payoutaccount_state",
            ),
            models.CheckConstraint(
                condition=~Q(state=AccountState.ACTIVE)
                | Q(stripe_id__isnull=False, held_until__isnull=False),
                name="billing_payoutaccount_active",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PayoutHold(models.Model):
    """Staff hold a provider's payouts, with a reason; released by staff."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    provider_ref = models.UUIDField()
    reason = models.CharField(max_length=500)
    placed_by = models.CharField(max_length=100)
    placed_at = models.DateTimeField(db_default=AppNow())
    released_by = models.CharField(max_length=100, blank=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider_ref"],
                condition=Q(released_at__isnull=True),
                name="billing_payouthold_once",
            )
        ]

    def __str__(self) -> str:
        return self.reason


class PayoutRun(models.Model):
    """Payouts decided together. ``week`` names the scheduled one, which exists once.

    Above the limit a second person approves; starts_at is set when it may begin without, which
    is a day later where there is one member of staff only.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    state = models.CharField(max_length=10, choices=_choices(RunState))
    week = models.DateField(null=True, unique=True)
    actor = models.CharField(max_length=100)
    total_micro = models.BigIntegerField()
    approvals_needed = models.PositiveIntegerField()
    starts_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=AppNow())
    started_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in RunState]),
                name="billing_payoutrun_state",
            ),
            # Two sets of decisions over the same money would wait for the same approvals.
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state=RunState.WAITING),
                name="billing_payoutrun_one_waits",
            ),
        ]

    def __str__(self) -> str:
        return f"payout run of {self.created_at:%Y-%m-%d}"


class PayoutApproval(models.Model):
    """A person who agreed to a run; the one who began it is the first."""

    run = models.ForeignKey(PayoutRun, on_delete=models.PROTECT, related_name="approvals")
    actor = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "actor"], name="billing_payoutapproval_once")
        ]

    def __str__(self) -> str:
        return self.actor


class PayoutLine(models.Model):
    """One provider's payout in a run: whole cents, one transfer at Stripe.

    returned_micro is what came back to us of what was sent. destination: the payment at the
    connected account that the transfer became; Stripe's payout to the bank names it.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(PayoutRun, on_delete=models.PROTECT, related_name="lines")
    provider_ref = models.UUIDField(db_index=True)
    state = models.CharField(max_length=10, choices=_choices(LineState), default=LineState.PLANNED)
    amount_micro = models.BigIntegerField()
    due_micro = models.BigIntegerField()  # when it was decided
    reserve_micro = models.BigIntegerField()
    returned_micro = models.BigIntegerField(default=0)
    account = models.CharField(max_length=255, blank=True)  # Stripe's, once it began
    stripe_id = models.CharField(max_length=255, null=True, unique=True)
    destination = models.CharField(max_length=255, blank=True, db_index=True)
    reason = models.CharField(max_length=500, blank=True)
    expected_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=AppNow())
    sent_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["sent_at"], name="billing_payoutline_moving"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["run", "provider_ref"], name="billing_payoutline_once"),
            models.CheckConstraint(
                condition=Q(amount_micro__gte=10_000)
                & Q(returned_micro__gte=0, returned_micro__lte=F("amount_micro")),
                name="billing_payoutline_amount",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in LineState]),
                name="billing_payoutline_state",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[LineState.SENT, LineState.PAID])
                | Q(stripe_id__isnull=False),
                name="billing_payoutline_sent",
            ),
        ]

    def __str__(self) -> str:
        return f"payout {self.id}"

    @property
    def kept_micro(self) -> int:
        """What the provider has of it."""
        return self.amount_micro - self.returned_micro


class StripeBalance(models.Model):
    """What Stripe said last of our own balance there, one row per currency."""

    currency = models.CharField(primary_key=True, max_length=3)
    available_micro = models.BigIntegerField()
    pending_micro = models.BigIntegerField()
    read_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.available_micro} {self.currency}"
