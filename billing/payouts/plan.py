"""What a run now would pay to whom, and what stands against it. Reads only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, Sum

from billing.contracts.payouts import AccountState, PayoutPreview, PlannedView
from billing.models import (
    Account,
    AccountKind,
    Maturity,
    PayoutAccount,
    PayoutHold,
    Posting,
    StripeBalance,
)
from billing.payouts import rules
from billing.payouts.breaks import open_breaks
from kernel.clock import now
from kernel.money import CURRENCY

_TENANT = (AccountKind.TENANT, AccountKind.TENANT_HOLD, AccountKind.TENANT_PROMO)
_PROVIDER = (
    AccountKind.PROVIDER_PENDING,
    AccountKind.PROVIDER_DUE,
    AccountKind.PROVIDER_CLEARING,
)


@dataclass(frozen=True)
class Plan:
    """One provider's payout, decided. account: Stripe's, where it can receive."""

    provider_ref: UUID
    due_micro: int
    reserve_micro: int
    payable_micro: int
    held: bool
    blocked_by: tuple[str, ...]
    account: str

    @property
    def amount_micro(self) -> int:
        """What goes out: nothing while something stands against it."""
        return 0 if self.blocked_by else self.payable_micro


def plans(provider_refs: Sequence[UUID] | None = None) -> list[Plan]:
    """Decide for these providers, or for all that something is due to, in id order of accounts.

    The caller that acts on it holds the locks of their provider_due accounts.
    """
    present = now()
    due = _due(provider_refs)
    refs = list(due)
    matured: dict[UUID, list[rules.Matured]] = defaultdict(list)
    recent = Maturity.objects.filter(
        provider_ref__in=refs, created_at__gt=present - rules.RESERVED_FOR
    )
    for row in recent:
        matured[row.provider_ref].append(rules.Matured(row.created_at, row.amount_micro))
    first = _first_earned(refs)
    accounts = PayoutAccount.objects.in_bulk(refs)
    held = dict(
        PayoutHold.objects.filter(provider_ref__in=refs, released_at=None).values_list(
            "provider_ref", "reason"
        )
    )
    found = []
    for ref, micro in due.items():
        kept = rules.reserve(matured[ref], first_earned_at=first.get(ref, present), at=present)
        payable = rules.payable(due_micro=micro, reserve_micro=kept)
        account = accounts.get(ref)
        against = [*_against_account(account, present)]
        if ref in held:
            against.append(f"Held by the platform: {held[ref]}")
        if not payable:
            against.append(rules.too_little())
        stripe_id = (account.stripe_id if account else None) or ""
        found.append(Plan(ref, micro, kept, payable, ref in held, tuple(against), stripe_id))
    return found


def preview() -> PayoutPreview:
    """Cash against all that is owed, and what a run now would do."""
    decided = plans()
    against = open_breaks()
    total = 0 if against else sum(plan.amount_micro for plan in decided)
    cash = StripeBalance.objects.filter(currency=CURRENCY).first()
    present = now()
    return PayoutPreview(
        currency=CURRENCY,
        cash_available_micro=cash.available_micro if cash else None,
        cash_pending_micro=cash.pending_micro if cash else None,
        cash_read_at=cash.read_at if cash else None,
        # A post-paid debtor's minus is no cash of ours that others are owed less of.
        owed_tenants_micro=_tenants(),
        owed_providers_micro=_sum(_PROVIDER),
        owed_tax_micro=_sum((AccountKind.TAX_PAYABLE,)),
        total_micro=total,
        approvals_needed=rules.approvals_needed(
            total_micro=total, limit_micro=settings.GPUYARD_PAYOUT_APPROVAL_MICRO
        ),
        expected_at=present + rules.TO_BANK,
        blocked_by=against,
        providers=tuple(
            PlannedView(
                provider_ref=plan.provider_ref,
                due_micro=plan.due_micro,
                reserve_micro=plan.reserve_micro,
                amount_micro=0 if against else plan.amount_micro,
                held=plan.held,
                blocked_by=plan.blocked_by,
            )
            for plan in decided
        ),
    )


def _due(provider_refs: Sequence[UUID] | None) -> dict[UUID, int]:
    legs = Posting.objects.filter(account__kind=AccountKind.PROVIDER_DUE, currency=CURRENCY)
    if provider_refs is not None:
        legs = legs.filter(account__owner_ref__in=provider_refs)
    sums: Any = (
        legs.values("account__owner_ref", "account")
        .annotate(total=Sum("amount_micro"))
        .exclude(total=0)
        .order_by("account")
        .values_list("account__owner_ref", "total")
    )
    return dict(sums)


def _first_earned(provider_refs: list[UUID]) -> dict[UUID, datetime]:
    """A provider's first account is opened with its first share."""
    rows: Any = Account.objects.filter(
        kind=AccountKind.PROVIDER_PENDING, currency=CURRENCY, owner_ref__in=provider_refs
    ).values_list("owner_ref", "created_at")
    return dict(rows)


def _against_account(account: PayoutAccount | None, present: datetime) -> Iterable[str]:
    if account is None:
        yield "There is no payout account."
    elif account.state != AccountState.ACTIVE:
        yield f"The payout account is not ready at Stripe: {account.state}."
    elif account.held_until is not None and account.held_until > present:
        yield (
            "The payout account is new or was opened for a change: payouts wait until "
            f"{account.held_until:%Y-%m-%d %H:%M} UTC."
        )


def _tenants() -> int:
    total = Account.objects.filter(kind__in=_TENANT, balance_micro__gt=0).aggregate(
        total=Sum("balance_micro")
    )["total"]
    promo = Posting.objects.filter(
        account__kind=AccountKind.TENANT_PROMO, account__balance_micro__isnull=True
    ).aggregate(total=Sum("amount_micro"))["total"]
    return (total or 0) + (promo or 0)


def _sum(kinds: Iterable[AccountKind]) -> int:
    legs = Posting.objects.filter(Q(account__kind__in=list(kinds)), currency=CURRENCY)
    return legs.aggregate(total=Sum("amount_micro"))["total"] or 0
