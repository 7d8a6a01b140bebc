"""R3 and R5: what Stripe's balance did against what the ledger says that it did. No network here.

Both sides are sums by the object at Stripe that moved the money. A kind that is new is a line of
SOURCES.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, product
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, Sum

from billing.contracts import PaymentState
from billing.contracts.reconciliation import Difference
from billing.ledger.accounts import account
from billing.models import (
    AccountKind,
    CauseType,
    Dispute,
    Payment,
    PayoutLine,
    Posting,
    Refund,
    TransactionKind,
)
from kernel.money import from_minor


@dataclass(frozen=True)
class Source:
    """Rows whose ``stripe_id`` names what moved the money, and the transactions that book it.

    waiting: rows that are booked from their order on, while Stripe has not moved the money yet:
    left out on both sides.
    """

    cause: CauseType
    rows: Any
    kinds: tuple[TransactionKind, ...]
    waiting: Q = field(default_factory=lambda: Q(pk__in=[]))

    @property
    def moved(self) -> Any:
        """The rows whose money Stripe should have moved."""
        return self.rows.objects.filter(stripe_id__isnull=False).exclude(self.waiting)

    @property
    def booking(self) -> Q:
        """Their postings."""
        return Q(txn__kind__in=self.kinds, txn__cause_type=self.cause)


SOURCES: Final = (
    Source(
        CauseType.PAYMENT,
        Payment,
        (TransactionKind.TOPUP, TransactionKind.INVOICE_PAYMENT, TransactionKind.STRIPE_FEE),
    ),
    Source(
        CauseType.REFUND,
        Refund,
        (TransactionKind.REFUND, TransactionKind.REFUND_RETURNED),
        waiting=Q(state=PaymentState.PENDING, at_stripe=False),
    ),
    Source(
        CauseType.DISPUTE,
        Dispute,
        (TransactionKind.DISPUTE, TransactionKind.DISPUTE_FEE, TransactionKind.DISPUTE_WON),
    ),
    # A transfer; what is reversed of it is named by it as well.
    Source(
        CauseType.PAYOUT,
        PayoutLine,
        (TransactionKind.PAYOUT_SENT, TransactionKind.PAYOUT_RETURNED),
    ),
)


@dataclass
class Booked:
    """What the ledger says that one object of Stripe brought us. micro: + is more cash."""

    micro: int = 0
    about: frozenset[str] = frozenset()


def booked(keys: Iterable[str]) -> dict[str, Booked]:
    """By Stripe's id: what is booked of it until now. Ids of nothing booked are absent."""
    found: dict[str, Booked] = {}
    for wanted, source in product(_chunks(keys), SOURCES):
        names = dict(source.moved.filter(stripe_id__in=wanted).values_list("id", "stripe_id"))
        legs = _cash().filter(source.booking, txn__cause_id__in=names)
        for cause, micro in legs.values_list("txn__cause_id").annotate(Sum("amount_micro")):
            one = found.setdefault(names[cause], Booked())
            one.micro -= micro
            one.about |= {f"cause:{cause}"}
    return found


def booked_between(
    since: datetime, until: datetime, again: Iterable[UUID] = ()
) -> tuple[set[str], list[Difference]]:
    """Stripe's ids of what was booked in [since, until), or in the transactions ``again``; and
    bookings that name none."""
    keys: set[str] = set()
    orphans: list[Difference] = []
    legs = _cash().filter(Q(txn__at__gte=since, txn__at__lt=until) | Q(txn__in=list(again)))
    named = Q()
    for source in SOURCES:
        named |= source.booking
        mine = legs.filter(source.booking)
        causes = mine.values("txn__cause_id")
        keys |= set(source.moved.filter(id__in=causes).values_list("stripe_id", flat=True))
        waiting = source.rows.objects.filter(source.waiting)
        strange = mine.exclude(txn__cause_id__in=source.moved.values("id"))
        orphans += _orphans(strange.exclude(txn__cause_id__in=waiting.values("id")))
    return keys, orphans + _orphans(legs.exclude(named))


def _orphans(legs: Any) -> list[Difference]:
    """What moves cash and names nothing at Stripe; not what was taken back as well."""
    sums = legs.values_list("txn__cause_id", "txn").annotate(Sum("amount_micro")).order_by("txn")
    causes: dict[UUID, tuple[UUID, int]] = {}
    for cause, txn, micro in sums:
        causes[cause] = (txn, causes.get(cause, (txn, 0))[1] - micro)
    return [_orphan(txn, micro) for txn, micro in causes.values() if micro]


def _orphan(txn: UUID, micro: int) -> Difference:
    return Difference(
        name="cash_movements",
        subject=f"txn:{txn}",
        expected="0",
        found=str(micro),
        text=f"Transaction {txn} moves cash, and no object at Stripe is named that did",
        amount=micro,
        about=frozenset({f"txn:{txn}", "cash"}),
    )


def movement(key: str, there_minor: int, here: Booked) -> Difference | None:
    """R3 for one object of Stripe; None when both sides agree."""
    expected = from_minor(there_minor)
    if expected == here.micro:
        return None
    return Difference(
        name="cash_movements",
        subject=f"stripe:{key}",
        expected=str(expected),
        found=str(here.micro),
        text=f"{key} changed our balance at Stripe by {there_minor} cents; booked is another sum",
        amount=here.micro - expected,
        about=here.about | {f"stripe:{key}", "cash"},
    )


def total(balance_minor: int, recent_minor: Mapping[str, int]) -> Difference | None:
    """R5: all cash against Stripe's balance (available, pending and in transit).

    recent_minor: what moved there so lately that the books may not have it yet, by Stripe's id;
    of that, what is booked or not makes no difference.
    """
    here = -_sum(_cash())
    for source in SOURCES:
        waiting_rows = source.rows.objects.filter(source.waiting).values("id")
        here += _sum(_cash().filter(source.booking, txn__cause_id__in=waiting_rows))
    fresh = booked(recent_minor)
    waiting = sum(
        from_minor(minor) - (fresh[key].micro if key in fresh else 0)
        for key, minor in recent_minor.items()
    )
    expected = from_minor(balance_minor) - waiting
    if expected == here:
        return None
    cash = account(AccountKind.STRIPE_CASH)
    return Difference(
        name="cash_total",
        subject="cash",
        expected=str(expected),
        found=str(here),
        text="Our cash is not what Stripe has of ours",
        amount=here - expected,
        about=frozenset({"cash", f"account:{cash}"}),
    )


def _chunks(keys: Iterable[str], size: int = 5000) -> Iterator[list[str]]:
    rest = iter(keys)
    while chunk := list(islice(rest, size)):
        yield chunk


def _sum(legs: Any) -> int:
    return int(legs.aggregate(micro=Sum("amount_micro"))["micro"] or 0)


def _cash() -> Any:
    return Posting.objects.filter(account_id=account(AccountKind.STRIPE_CASH))
