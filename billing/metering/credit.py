"""Give a charged stretch back: a new transaction linked to the charge, never a change of it.

What the renter paid for the stretch returns to its balance, with the tax on it. Who bears it
depends on whose fault it was: the host gives its share back and we our fee, or we pay it all and
the host keeps its share.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from billing.ledger.accounts import lock_purse, open_accounts
from billing.ledger.post import Entry, Leg, post
from billing.metering.tax import give_back
from billing.models import (
    AccountKind,
    CauseType,
    RentalMeter,
    Transaction,
    TransactionKind,
    UsageLine,
)

_PENDING, _REVENUE, _COST, _TAX = (
    AccountKind.PROVIDER_PENDING,
    AccountKind.REVENUE,
    AccountKind.PLATFORM_COST,
    AccountKind.TAX_PAYABLE,
)


def credit(*, rental_ref: UUID, from_at: datetime, to_at: datetime, by_provider: bool) -> int:
    """Credit what was charged for [from_at, to_at) of a rental; the amount before tax, 0 when
    nothing was.

    In a transaction. Once per last charge of the stretch: repeating it gives nothing more. Parts of
    a charge are rounded down.
    """
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if meter is None:
        return 0
    touched = UsageLine.objects.filter(meter=meter, to_at__gt=from_at, from_at__lt=to_at)
    lines = list(touched.order_by("from_at"))
    if not lines:
        return 0
    last = lines[-1]
    if Transaction.objects.filter(
        kind=TransactionKind.OUTAGE_CREDIT, cause_type=CauseType.USAGE, cause_id=last.id
    ).exists():
        return 0
    amount = provider = overrun = 0
    for line in lines:
        inside = min(line.to_at, to_at) - max(line.from_at, from_at)
        seconds = int(inside.total_seconds())
        part = line.amount_micro * seconds // line.seconds
        amount += part
        provider += line.provider_micro * seconds // line.seconds
        overrun += min(part, line.overrun_micro)  # what we bore already is nobody's to get back
    paid = amount - overrun
    if not paid:
        return 0
    purse = lock_purse(meter.org_ref)
    pending = (_PENDING, meter.provider_ref)
    accounts = open_accounts([pending, (_REVENUE, None), (_COST, None), (_TAX, None)])
    cost = accounts[_COST, None]
    meter.credited_micro += paid
    tax = give_back(meter)
    back: tuple[Leg, ...] = ((purse.tenant, paid + tax), (accounts[_TAX, None], -tax))
    legs: tuple[Leg, ...] = (*back, (cost, -paid))
    if by_provider:
        legs = (
            *back,
            (accounts[pending], -provider),
            (accounts[_REVENUE, None], provider - amount),
            (cost, overrun),
        )
    post([Entry(TransactionKind.OUTAGE_CREDIT, CauseType.USAGE, last.id, legs, linked=last.txn_id)])
    meter.save(update_fields=["credited_micro", "tax_returned_micro"])
    return paid
