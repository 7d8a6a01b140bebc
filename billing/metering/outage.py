"""Credit for the time in which a rental was interrupted, on top of not charging for it.

rate x interrupted seconds, at most a day a case. The owner of the cards bears it when the host was
at fault, at most what it earned from that rental in the day before; the platform bears the rest,
and all of it when the fault was its own or nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from billing.ledger.accounts import lock_purse, open_accounts
from billing.ledger.post import Entry, post
from billing.metering.earned import earned
from billing.metering.tax import give_back
from billing.models import (
    AccountKind,
    CauseType,
    OutageCase,
    OutageCredit,
    RentalMeter,
    Transaction,
    TransactionKind,
    UsageLine,
)
from billing.rating.rounding import charged

# Longer than a day is no interruption of work any more; whoever waits that long has moved on.
MOST = timedelta(days=1)


def outage(
    *, case_ref: UUID, rental_ref: UUID, from_at: datetime, to_at: datetime, by_provider: bool
) -> int:
    """Bring a case's credit up to ``to_at``; the whole credit of the case. In a transaction.

    Repeating it adds nothing, nor does an earlier ``to_at``. 0 for a rental without a meter.
    """
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    if meter is None:
        return 0
    case = OutageCase.objects.filter(case_ref=case_ref).first()
    if case is None:
        limit = earned([rental_ref], from_at)[rental_ref] if by_provider else 0
        case = OutageCase(
            case_ref=case_ref, meter=meter, from_at=from_at, provider_limit_micro=limit
        )
    seconds = int(min(to_at - case.from_at, MOST).total_seconds())
    amount = charged(meter.price_micro_h, seconds) - case.amount_micro if seconds > 0 else 0
    if amount <= 0:
        return case.amount_micro
    borne = min(case.amount_micro + amount, case.provider_limit_micro) - case.provider_micro
    case.seconds = seconds
    case.amount_micro += amount
    case.provider_micro += borne
    case.save()
    _post(meter, case, amount, borne)
    return case.amount_micro


def credited_seconds(*, case_refs: Iterable[UUID]) -> dict[UUID, int]:
    """How far the cases that exist are credited."""
    rows = OutageCase.objects.filter(case_ref__in=list(case_refs))
    return dict(rows.values_list("case_ref", "seconds"))


def provider_gap(*, case_ref: UUID, rental_ref: UUID, seconds: int) -> int:
    """Pay the owner its share of a gap of our making, in which its cards ran; once per case."""
    meter = RentalMeter.objects.select_for_update().filter(rental_ref=rental_ref).first()
    amount = charged(meter.provider_micro_h, max(seconds, 0)) if meter else 0
    known = Transaction.objects.filter(
        kind=TransactionKind.PROVIDER_GAP, cause_type=CauseType.OUTAGE, cause_id=case_ref
    )
    if meter is None or not amount or known.exists():
        return 0
    pending, cost = (
        (AccountKind.PROVIDER_PENDING, meter.provider_ref),
        (AccountKind.PLATFORM_COST, None),
    )
    accounts = open_accounts([pending, cost])
    legs = ((accounts[pending], amount), (accounts[cost], -amount))
    post([Entry(TransactionKind.PROVIDER_GAP, CauseType.OUTAGE, case_ref, legs)])
    return amount


def _post(meter: RentalMeter, case: OutageCase, amount: int, borne: int) -> None:
    purse = lock_purse(meter.org_ref)
    pending, cost, taxes = (
        (AccountKind.PROVIDER_PENDING, meter.provider_ref),
        (AccountKind.PLATFORM_COST, None),
        (AccountKind.TAX_PAYABLE, None),
    )
    accounts = open_accounts([pending, cost, taxes])
    tax = give_back(meter)
    meter.save(update_fields=["tax_returned_micro"])
    row = OutageCredit(case=case, seconds=case.seconds, amount_micro=amount, provider_micro=borne)
    legs = (
        (purse.tenant, amount + tax),
        (accounts[taxes], -tax),
        (accounts[pending], -borne),
        (accounts[cost], borne - amount),
    )
    # As old as the use that was broken off: what its owner bears is of that share, due or not.
    last = UsageLine.objects.filter(meter=meter).order_by("-seq").values_list("txn_id", flat=True)
    linked = last.first()
    entry = Entry(TransactionKind.OUTAGE_CREDIT, CauseType.OUTAGE, row.id, legs, linked=linked)
    post([entry])
    row.txn_id = entry.id
    row.save(force_insert=True)
