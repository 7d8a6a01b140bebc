"""What was charged, earned and is left: reads for the door, no locks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import F

from billing.contracts import BalanceView, ChargeView
from billing.models import Account, AccountKind, RentalMeter, UsageLine
from billing.rating.funds import Burning, lasts_until
from billing.rating.tax import with_tax
from kernel.clock import now
from kernel.errors import NotFound
from kernel.money import CURRENCY


def balance(*, org_ref: UUID) -> BalanceView:
    """Balance, hold and how long both last at the present burn."""
    found = balances(org_refs=[org_ref])
    if org_ref not in found:
        raise NotFound("organization")
    return found[org_ref]


def balances(*, org_refs: Collection[UUID]) -> dict[UUID, BalanceView]:
    """`balance` of each organization that has accounts, in two queries."""
    wanted = list(org_refs)
    accounts: dict[UUID, dict[str, Account]] = {}
    for row in Account.objects.filter(
        owner_ref__in=wanted,
        currency=CURRENCY,
        kind__in=[AccountKind.TENANT, AccountKind.TENANT_HOLD],
    ):
        if row.owner_ref is not None:  # a tenant's account is always somebody's
            accounts.setdefault(row.owner_ref, {})[row.kind] = row
    running: dict[UUID, list[Burning]] = {}
    for meter in RentalMeter.objects.filter(org_ref__in=wanted, running_since__isnull=False):
        one = Burning(
            with_tax(meter.price_micro_h, meter.tax_ppm),
            meter.held_micro,
            meter.running_since,
            meter.charged_until,
        )
        running.setdefault(meter.org_ref, []).append(one)
    at = now() if running else None  # the usual answer needs no clock
    return {
        owner: _balance(rows, running.get(owner, []), at)
        for owner, rows in accounts.items()
        if len(rows) == 2
    }


def _balance(
    accounts: dict[str, Account], running: list[Burning], at: datetime | None
) -> BalanceView:
    tenant, held = accounts[AccountKind.TENANT], accounts[AccountKind.TENANT_HOLD]
    available = tenant.balance_micro or 0
    spendable = available - (tenant.floor_micro or 0)
    ends = None
    if running and at is not None:
        ends = lasts_until(running, spendable_micro=spendable, at=at)
    return BalanceView(
        currency=CURRENCY,
        available_micro=available,
        held_micro=held.balance_micro or 0,
        credit_limit_micro=tenant.credit_limit_micro or 0,
        spendable_micro=spendable,
        burn_micro_h=sum(rental.price_micro_h for rental in running),
        funds_end_at=ends,
    )


def charges(*, rental_ref: UUID) -> list[ChargeView]:
    """A rental's usage lines, oldest first."""
    return [_view(line) for line in UsageLine.objects.filter(meter=rental_ref).order_by("seq")]


def charges_of(
    *,
    rental_refs: Sequence[UUID],
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    limit: int | None = None,
) -> list[ChargeView]:
    """Usage lines of several rentals that overlap [from_at, to_at), newest first."""
    lines = UsageLine.objects.filter(meter__in=rental_refs).order_by("-from_at", "-id")
    if from_at is not None:
        lines = lines.filter(to_at__gt=from_at)
    if to_at is not None:
        lines = lines.filter(from_at__lt=to_at)
    return [_view(line) for line in (lines if limit is None else lines[:limit])]


def charge(*, charge_id: UUID) -> ChargeView:
    """One usage line. Whose it is, the caller checks by its rental."""
    line = UsageLine.objects.filter(id=charge_id).first()
    if line is None:
        raise NotFound("charge")
    return _view(line)


def spent(*, rental_refs: Sequence[UUID]) -> dict[UUID, int]:
    """What the renter was charged per rental, before tax, less what we bore or gave back."""
    rows = RentalMeter.objects.filter(rental_ref__in=rental_refs).values_list(
        "rental_ref", F("charged_micro") - F("overrun_micro") - F("credited_micro")
    )
    return dict(rows)


def _view(line: UsageLine) -> ChargeView:
    return ChargeView(
        id=line.id,
        rental_ref=line.meter_id,
        source_ref=line.source_ref,
        seq=line.seq,
        from_at=line.from_at,
        to_at=line.to_at,
        seconds=line.seconds,
        gpus=line.gpus,
        price_micro_h=line.price_micro_h,
        amount_micro=line.amount_micro,
        provider_micro=line.provider_micro,
        fee_micro=line.fee_micro,
        tax_micro=line.tax_micro,
        overrun_micro=line.overrun_micro,
        txn_id=line.txn_id,
    )
