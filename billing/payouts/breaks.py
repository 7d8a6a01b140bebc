"""What stands against every payout: differences between our books and Stripe's, left open."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from billing.models import Break
from kernel.clock import AppNow

# Three nights: long enough to look at a weekend's break on Monday, short enough that no weekly
# payout goes out over one that nobody explained.
PATIENCE: Final = timedelta(hours=72)


def open_breaks() -> tuple[str, ...]:
    """A sentence when nobody may be paid now; empty when nothing stands against it."""
    count = Break.objects.filter(
        resolved_at__isnull=True, first_seen_at__lte=AppNow() - PATIENCE
    ).count()
    return (f"{count} differences in the books are open for more than 72 hours.",) if count else ()
