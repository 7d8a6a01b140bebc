"""When the standing order charges, and how much. Pure: facts in, decision out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.contracts import PaymentState
from billing.contracts.autotopup import AutoTopUpWish
from kernel.money import MICRO_PER_MINOR

# One charge an hour: a charge takes minutes to settle where the bank is slow, and a broken order
# must not empty a card while nobody looks.
SPACING: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
# A card that was refused three times is refused a fourth time; banks count that against us.
MOST_FAILURES: Final = 3
# How far ahead is looked. Holds reach 75 minutes, so money that ends within two hours is about to
# be taken; a longer look would charge long before the balance is low.
AHEAD_HOURS: Final = 2
# Stripe's word for a card whose owner has to confirm.
NEEDS_OWNER: Final = "authentication_required"


@dataclass(frozen=True)
class Try:
    """A top-up: by the order (auto), or by the organization's people."""

    id: UUID
    at: datetime
    amount_micro: int
    state: PaymentState
    auto: bool
    code: str = ""


@dataclass(frozen=True)
class Decision:
    """do: nothing, wait, charge, ask (its owner to confirm ``about``) or stop."""

    do: str
    amount_micro: int = 0
    about: UUID | None = None


NOTHING: Final = Decision("nothing")
WAIT: Final = Decision("wait")


def decide(
    wish: AutoTopUpWish,
    *,
    set_at: datetime,
    tries: Sequence[Try],
    spendable_micro: int,
    burn_micro_h: int,
    smallest_micro: int,
    largest_micro: int,
    at: datetime,
) -> Decision:
    """What the order does now. tries: of the last day at least, newest first."""
    ours = [one for one in tries if one.auto]
    if any(one.state in (PaymentState.PENDING, PaymentState.OPEN) for one in ours):
        return WAIT
    if failures(tries, set_at) >= MOST_FAILURES:
        return Decision("stop")
    asked = waits_for_owner(tries, set_at)
    if asked is not None:
        return Decision("ask", asked.amount_micro, asked.id)
    if spendable_micro - burn_micro_h * AHEAD_HOURS >= wish.threshold_micro:
        return NOTHING
    if ours and ours[0].at > at - SPACING:
        return WAIT
    wanted = -(-(wish.target_micro - spendable_micro) // MICRO_PER_MINOR) * MICRO_PER_MINOR
    room = wish.daily_micro - charged(tries, at)
    amount = min(wanted, room // MICRO_PER_MINOR * MICRO_PER_MINOR, largest_micro)
    return Decision("charge", amount) if amount >= smallest_micro else NOTHING


def charged(tries: Sequence[Try], at: datetime) -> int:
    """What the order charged, or may still charge, in the last day."""
    return sum(
        one.amount_micro
        for one in tries
        if one.auto
        and one.at > at - DAY
        and one.state not in (PaymentState.FAILED, PaymentState.CANCELED)
    )


def failures(tries: Sequence[Try], set_at: datetime) -> int:
    """How many of the order's charges failed in a row since it was set or a top-up succeeded."""
    count = 0
    for one in tries:
        if one.at <= set_at or one.state == PaymentState.SUCCEEDED:
            break
        count += one.auto and one.state == PaymentState.FAILED
    return count


def waits_for_owner(tries: Sequence[Try], set_at: datetime) -> Try | None:
    """The charge whose card wants its owner, until a top-up succeeds or the order is set anew."""
    for one in tries:
        if one.at <= set_at or one.state == PaymentState.SUCCEEDED:
            return None
        if one.auto and one.state == PaymentState.FAILED:
            return one if one.code == NEEDS_OWNER else None
    return None
