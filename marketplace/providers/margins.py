"""What is left for the platform of its own cards' use and of partners', per card type.

Whose cards are the platform's is what holds today, not on the day of the use; and the own cards
there are now count as if they had been there all the time: nobody keeps how many there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from math import floor

from django.db.models import Sum

from billing.contracts.usage import UseTotal
from billing.facade import usage as billing
from marketplace.accounts.access import STAFF, Principal
from marketplace.models import Offer, Provider

_HOUR = 3600


@dataclass(frozen=True)
class Use:
    """Sums of one side. kept_micro: what is not the owners' and was paid: of partners' cards the
    fee, of own ones the whole price."""

    gpu_seconds: int = 0
    revenue_micro: int = 0
    kept_micro: int = 0


@dataclass(frozen=True)
class Side:
    """A side and what it leaves. None: nothing was rented, or the cost is not known."""

    use: Use
    cost_micro: int | None
    margin_micro: int | None
    per_gpu_hour_micro: int | None


@dataclass(frozen=True)
class CardMargin:
    """A card type. cards: of our own, now."""

    accelerator: str
    cards: int
    owned: Side
    partner: Side


def margins(
    *,
    acting: Principal,
    from_at: datetime,
    to_at: datetime,
    cost_micro_h: Mapping[str, int],
) -> list[CardMargin]:
    """For use that began in [from_at, to_at). cost_micro_h: by card type, what an hour of an own
    card costs while it is there; what own cards leave is known where that is given."""
    acting.require(STAFF)
    totals = billing.use_by_owner(from_at=from_at, to_at=to_at)
    own = set(
        Provider.objects.filter(ownership=Provider.Ownership.OWNED).values_list("id", flat=True)
    )
    cards = own_cards()
    hours = Fraction(int((to_at - from_at).total_seconds()), _HOUR)
    found = []
    for name in sorted({one.accelerator for one in totals} | set(cards)):
        of_card = [one for one in totals if one.accelerator == name]
        ours = _sum(one for one in of_card if one.provider_ref in own)
        theirs = _sum(one for one in of_card if one.provider_ref not in own)
        count = cards.get(name, 0)
        owned = owned_side(ours, count * hours, cost_micro_h.get(name))
        found.append(CardMargin(name, count, owned, _side(theirs, 0)))
    return found


def owned_side(use: Use, available_hours: Fraction, cost_micro_h: int | None) -> Side:
    """Own cards cost while they are there, rented or not; the cost is rounded up."""
    return _side(use, None if cost_micro_h is None else -floor(-available_hours * cost_micro_h))


def _side(use: Use, cost_micro: int | None) -> Side:
    if cost_micro is None:
        return Side(use, None, None, None)
    left = use.kept_micro - cost_micro
    per_hour = left * _HOUR // use.gpu_seconds if use.gpu_seconds else None
    return Side(use, cost_micro, left, per_hour)


def _sum(totals: Iterable[UseTotal]) -> Use:
    found = Use()
    for one in totals:
        found = replace(
            found,
            gpu_seconds=found.gpu_seconds + one.gpu_seconds,
            revenue_micro=found.revenue_micro + one.amount_micro,
            kept_micro=found.kept_micro + one.amount_micro - one.provider_micro - one.overrun_micro,
        )
    return found


def own_cards() -> dict[str, int]:
    """Our own cards there are now, by type."""
    rows = (
        Offer.objects.filter(ownership=Provider.Ownership.OWNED)
        .exclude(state=Offer.State.ENDED)
        .order_by()
        .values_list("group__accelerator")
        .annotate(Sum("group__slots_total"))
    )
    return {name: cards for name, cards in rows if cards}
