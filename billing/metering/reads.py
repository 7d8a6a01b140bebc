"""What was charged, earned and is left: reads for the door, no locks."""

from __future__ import annotations

from collections.abc import Sequence
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
    accounts = {
        row.kind: row
        for row in Account.objects.filter(
            owner_ref=org_ref,
            currency=CURRENCY,
            kind__in=[AccountKind.TENANT, AccountKind.TENANT_HOLD],
        )
    }
    if len(accounts) < 2:
        raise NotFound("organization")
    tenant, held = accounts[AccountKind.TENANT], accounts[AccountKind.TENANT_HOLD]
    available = tenant.balance_micro or 0
    spendable = available - (tenant.floor_micro or 0)
    burn, ends = _burn(org_ref, spendable)
    return BalanceView(
        currency=CURRENCY,
        available_micro=available,
        held_micro=held.balance_micro or 0,
        credit_limit_micro=tenant.credit_limit_micro or 0,
        spendable_micro=spendable,
        burn_micro_h=burn,
        funds_end_at=ends,
    )


def _burn(org_ref: UUID, spendable: int) -> tuple[int, datetime | None]:
    """Hourly price with tax of what runs, and when holds and balance are used up together."""
    running = [
        Burning(
            with_tax(meter.price_micro_h, meter.tax_ppm),
            meter.held_micro,
            meter.running_since,
            meter.charged_until,
        )
        for meter in RentalMeter.objects.filter(org_ref=org_ref, running_since__isnull=False)
    ]
    burn = sum(rental.price_micro_h for rental in running)
    if not running:
        return burn, None  # the usual answer of a list needs no clock
    return burn, lasts_until(running, spendable_micro=spendable, at=now())


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
        txn_id=line.txn_id,
    )
