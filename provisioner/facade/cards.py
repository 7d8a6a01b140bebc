"""The door to an owner's cards one by one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from provisioner.contracts.cards import CardSum, Stretches
from provisioner.inventory import cards as _cards


def apportion(
    *,
    provider_ref: UUID,
    stretches: Stretches,
    from_at: datetime,
    to_at: datetime,
    by_day: bool,
    by_card: bool,
    limit: int,
) -> list[CardSum]:
    """Amounts known per proven stretch, divided among the cards of it; the sums are equal."""
    return _cards.apportion(
        provider_ref=provider_ref,
        stretches=stretches,
        from_at=from_at,
        to_at=to_at,
        by_day=by_day,
        by_card=by_card,
        limit=limit,
    )
