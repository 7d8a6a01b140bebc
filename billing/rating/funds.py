"""Who pays a charge, and how long a hold lasts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.rating.rounding import HOUR, seconds_covered
from billing.rating.tax import net_paid_by

FIRST_HOLD = 3600
# A tick settles full hours; a quarter more carries the rental over a tick that comes late.
REFILL = 4500


def paid_until(
    *,
    rate_micro_h: int,
    held: int,
    running_since: datetime | None,
    charged_until: datetime | None,
    tax_ppm: int = 0,
) -> datetime | None:
    """The second at which the hold of a running rental is used up; None: not running, or free.

    The hold pays the tax on use as well, which ``rate_micro_h`` leaves out.
    """
    if running_since is None or rate_micro_h == 0:
        return None
    return unpaid_from(running_since, charged_until) + timedelta(
        seconds=seconds_covered(net_paid_by(held, tax_ppm), rate_micro_h)
    )


@dataclass(frozen=True)
class Burning:
    """A rental as far as it uses up money. price_micro_h: with the tax on use, see ``with_tax``."""

    price_micro_h: int
    held_micro: int
    running_since: datetime | None
    charged_until: datetime | None


def lasts_until(
    rentals: Iterable[Burning], *, spendable_micro: int, at: datetime
) -> datetime | None:
    """When the holds of these rentals and the balance are used up together; None: they are free."""
    burn, funds = 0, spendable_micro
    for rental in rentals:
        burn += rental.price_micro_h
        since = unpaid_from(rental.running_since or at, rental.charged_until)
        unpaid = max(0, int((at - since).total_seconds()))
        funds += rental.held_micro - rental.price_micro_h * unpaid // HOUR
    if not burn:
        return None
    # A century stands for "longer than anybody plans": a date must stay a date.
    seconds = min(max(funds, 0) * HOUR // burn, 100 * 365 * 24 * HOUR)
    return at + timedelta(seconds=seconds)


def unpaid_from(running_since: datetime, charged_until: datetime | None) -> datetime:
    """Where the seconds begin that run and are not charged yet."""
    return running_since if charged_until is None else max(running_since, charged_until)
