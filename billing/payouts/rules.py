"""When and how much a provider is paid. PURE: sums and times in, a decision out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kernel.money import CURRENCY, MICRO, MICRO_PER_MINOR, format_micro

# Below this a transfer costs more than it is worth to anybody; what is left goes on to the next.
SMALLEST = 25 * MICRO
# A provider's first months: a tenth of what matures waits another month, for what may come back.
FIRST_DAYS = timedelta(days=90)
RESERVED_FOR = timedelta(days=30)
RESERVE_PERCENT = 10
# Mondays at six: the week's use is settled, and people are awake before the banks are.
RUN_HOUR = 6
# Stripe pays transfers on to a bank within two working days; told late is better than too early.
TO_BANK = timedelta(days=4)
# A new or changed payout account: long enough to notice a mail over a weekend.
ACCOUNT_HOLD = timedelta(hours=72)
# One member of staff can not be two: a day to notice, and an audit row.
ALONE = timedelta(hours=24)


@dataclass(frozen=True)
class Matured:
    """What became due at a time; below zero it was taken back."""

    at: datetime
    amount_micro: int


def reserve(matured: Iterable[Matured], *, first_earned_at: datetime, at: datetime) -> int:
    """What is kept back at ``at``: a tenth of what matured in the last thirty days, as far as it
    did so in the provider's first ninety. Rounded down, never below zero."""
    inside = sum(
        one.amount_micro
        for one in matured
        if at - RESERVED_FOR < one.at <= at and one.at < first_earned_at + FIRST_DAYS
    )
    return max(0, inside) * RESERVE_PERCENT // 100


def payable(*, due_micro: int, reserve_micro: int) -> int:
    """The whole cents that may go out; 0 below the smallest payout."""
    free = (due_micro - reserve_micro) // MICRO_PER_MINOR * MICRO_PER_MINOR
    return free if free >= SMALLEST else 0


def too_little() -> str:
    """Why a small sum waits."""
    return f"Less than {format_micro(SMALLEST, places=2)} {CURRENCY} can be paid out yet."


def next_run(at: datetime) -> datetime:
    """The next scheduled run after ``at`` (UTC)."""
    monday = week_of(at)
    return monday if monday > at else monday + timedelta(days=7)


def week_of(at: datetime) -> datetime:
    """The scheduled run of the week that holds ``at``: it may lie before or after it."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=midnight.weekday()) + timedelta(hours=RUN_HOUR)


def approvals_needed(*, total_micro: int, limit_micro: int) -> int:
    """How many people must agree to a run of this size."""
    return 2 if total_micro > limit_micro else 0
