"""Billing's door to what waits for a person: how many, and since when the oldest does.

One query each; None where nothing waits.
"""

from __future__ import annotations

from datetime import datetime

from billing.payments import waiting as _payments
from billing.payouts import review as _review
from billing.reconciliation import breaks as _breaks

Waiting = tuple[int, datetime | None]


def disputes() -> Waiting:
    """Contested payments that may be answered and are not."""
    return _payments.disputes()


def orders() -> Waiting:
    """Refunds, credit notes, adjustments and promotions that want a second person."""
    return _payments.orders()


def breaks() -> Waiting:
    """Differences in the books that nobody explained."""
    return _breaks.unresolved()


def reviews() -> Waiting:
    """Renters whose use does not mature until somebody has looked."""
    found = _review.reviews()
    return len(found), min((view.first_use_at for view in found), default=None)


def unknown_objects() -> Waiting:
    """Objects at Stripe that name no row of ours."""
    return _payments.unknown_objects()
